// hadal quantize: the same model in fewer bytes.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/progress.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/conversion.h"
#include "cli/param_reader.h"
#include "cli/perplexity.h"
#include "cli/session.h"
#include "cli/store.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

struct Flags {
  std::string model, output, type, perplexity;
  int64_t context = 512, chunks = -1;
  int threads = 0;
  bool force = false, json = false;
};

Result<Perplexity> Measure(const Exec& exec, const std::string& path, const Flags& flags,
                           const char* when) {
  const std::string text = TRY(ReadFile(flags.perplexity));
  const Bundle bundle = TRY(LoadBundle(exec, path));
  PerplexityOptions options{.context = flags.context, .chunks = flags.chunks, .progress = {}};
  Progress bar(std::string("perplexity ") + when, Progress::Unit::kCount);
  options.progress = [&](int64_t done, int64_t total, double) {
    bar.Update(done, total);
    return !InterruptGuard::interrupted();
  };
  return MeasurePerplexity(*bundle.model, *bundle.tokenizer, text, options);
}

Result<std::string> OutputPath(const Flags& flags, const std::string& path, DType type) {
  fs::path output = flags.output;
  if (output.empty()) {
    const fs::path from(path);
    const fs::path stem = fs::is_directory(from) ? from : from.parent_path() / from.stem();
    output = stem.string() + "-" + std::string(Info(type).name) + ".gguf";
  }
  std::error_code error;
  if (fs::equivalent(output, path, error)) {
    return Error{Code::kInvalid, "--output is the model itself: choose another name"};
  }
  if (fs::exists(output, error) && !flags.force) {
    return Error{Code::kInvalid, fmt::format("{} exists: --force replaces it", output.string())};
  }
  return output.string();
}

json PerplexityJson(const Perplexity& p) { return {{"perplexity", p.value}, {"error", p.error}}; }

Status Run(const Flags& flags) {
  const DType type = TRY(ParseType(flags.type));
  const std::string path = TRY(FindModel(flags.model));
  const std::string output = TRY(OutputPath(flags, path, type));
  const auto exec = TRY(MakeExec(flags.threads));
  const InterruptGuard guard;
  json out = {{"output", output}, {"type", Info(type).name}};
  Perplexity before;
  if (!flags.perplexity.empty()) before = TRY(Measure(*exec, path, flags, "before"));
  ConversionReport report;
  {
    const WeightFile file = TRY(WeightFile::Open(path));
    Progress bar("quantize", Progress::Unit::kCount);
    ConversionOptions options{.type = type, .name = fs::path(path).stem().string(), .progress = {}};
    options.progress = [&](int64_t done, int64_t total) {
      bar.Update(done, total);
      return !InterruptGuard::interrupted();
    };
    report = file.kind() == WeightFile::Kind::kGguf
                 ? TRY(RequantizeGguf(exec->pool(), file, output, options))
                 : TRY(FolderToGguf(exec->pool(), file, output, options));
  }
  out["tensors"] = report.tensors_by_type;
  out["fallbacks"] = report.fallbacks;
  out["bytes"] = fs::file_size(output);
  if (!flags.perplexity.empty()) {
    const Perplexity after = TRY(Measure(*exec, output, flags, "after"));
    out["before"] = PerplexityJson(before);
    out["after"] = PerplexityJson(after);
  }
  if (flags.json) {
    fmt::print("{}\n", out.dump(2, ' ', false, json::error_handler_t::replace));
    return {};
  }
  fmt::print("{}  {}", Printable(output), HumanBytes(static_cast<double>(fs::file_size(output))));
  for (const auto& [name, count] : report.tensors_by_type) fmt::print("  {} {}", count, name);
  fmt::print("\n");
  if (report.fallbacks > 0) {
    fmt::print(
        "{} tensors have rows that {} does not fit and took another type (see hadal inspect "
        "--tensors)\n",
        report.fallbacks, Info(type).name);
  }
  if (!flags.perplexity.empty()) {
    fmt::print("perplexity {:.4f} before, {:.4f} after\n", before.value,
               out["after"]["perplexity"].get<double>());
  }
  return {};
}

}  // namespace

void AddQuantize(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = app.add_subcommand("quantize", "Write a model in a smaller type");
  verb->add_option("model,-m,--model", flags->model, "GGUF file, folder or name of a pulled model")
      ->required();
  verb->add_option("--type", flags->type, "F16, BF16, Q8_0, Q6_K, Q4_0 or Q4_K")->required();
  verb->add_option("-o,--output", flags->output, "By default MODEL-TYPE.gguf beside the model");
  verb->add_option("--perplexity", flags->perplexity, "Measure on this text before and after");
  verb->add_option("-c,--context", flags->context, "Tokens a chunk of the measurement")
      ->capture_default_str();
  verb->add_option("--chunks", flags->chunks, "Chunks measured at most; -1: all")
      ->capture_default_str();
  verb->add_flag("--force", flags->force, "Replace an existing file");
  AddThreads(*verb, flags->threads);
  AddJson(*verb, flags->json);
  verb->footer(
      "Vectors and routers stay F32, embedding and head get Q6_K under the 4-bit types, rows that\n"
      "are no multiple of 256 take Q5_0 for Q4_K and Q8_0 for Q6_K.\n"
      "Example:\n"
      "  hadal quantize model.gguf --type Q4_K --perplexity text.txt\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
