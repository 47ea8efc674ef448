// hadal convert: Hugging Face folder to GGUF and back.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/progress.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/conversion.h"
#include "cli/param_reader.h"
#include "cli/session.h"
#include "cli/store.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;

struct Flags {
  std::string model, output, type;
  int threads = 0;
  bool force = false, json = false;
};

Status Run(const Flags& flags) {
  const std::string path = TRY(FindModel(flags.model));
  const WeightFile file = TRY(WeightFile::Open(path));
  const bool to_gguf = file.kind() == WeightFile::Kind::kHuggingFace;
  if (to_gguf != flags.output.ends_with(".gguf")) {
    return Error{Code::kInvalid,
                 to_gguf ? "--output: a Hugging Face folder becomes a file ending in .gguf"
                         : "--output: a GGUF becomes a folder (for another type of weights in GGUF "
                           "use hadal quantize)"};
  }
  std::error_code error;
  if (fs::exists(flags.output, error) && !flags.force) {
    return Error{Code::kInvalid, fmt::format("{} exists: --force replaces it", flags.output)};
  }
  ConversionOptions options;
  options.type = TRY(ParseType(flags.type));
  const fs::path from =
      fs::path(path).has_filename() ? fs::path(path) : fs::path(path).parent_path();
  options.name = to_gguf ? from.filename().string() : from.stem().string();
  const auto exec = TRY(MakeExec(flags.threads));
  const InterruptGuard guard;
  Progress bar("convert", Progress::Unit::kCount);
  options.progress = [&](int64_t done, int64_t total) {
    bar.Update(done, total);
    return !InterruptGuard::interrupted();
  };
  const ConversionReport report = to_gguf
                                      ? TRY(FolderToGguf(exec->pool(), file, flags.output, options))
                                      : TRY(GgufToFolder(file, flags.output, options));
  if (report.mtp_dropped) {
    fmt::print(stderr, "hadal: the MTP layer was left out: GGUF readers do not use it\n");
  }
  if (flags.json) {
    const nlohmann::json out = {{"output", flags.output}, {"tensors", report.tensors_by_type}};
    fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return {};
  }
  fmt::print("{}", Printable(flags.output));
  for (const auto& [type, count] : report.tensors_by_type) fmt::print("  {} {}", count, type);
  fmt::print("\n");
  return {};
}

}  // namespace

void AddConvert(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  flags->type = "BF16";
  Verb* verb = app.add_subcommand("convert", "Hugging Face folder to GGUF, or back");
  verb->add_option("model,-m,--model", flags->model, "Folder, GGUF file or name of a pulled model")
      ->required();
  verb->add_option("-o,--output", flags->output, "A .gguf file, or a folder when the model is GGUF")
      ->required();
  verb->add_option("--type", flags->type,
                   "Type of the weights: BF16, F32; to GGUF also F16, Q8_0, Q4_0, Q4_K, Q6_K")
      ->capture_default_str();
  verb->add_flag("--force", flags->force, "Replace what is at the output");
  AddThreads(*verb, flags->threads);
  AddJson(*verb, flags->json);
  verb->footer(
      "Examples:\n"
      "  hadal convert ./DeepSeek-R1-Distill-Qwen-1.5B --output r1.gguf\n"
      "  hadal convert model.gguf --output folder --type F32\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
