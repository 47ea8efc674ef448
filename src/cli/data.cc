// hadal data: what models learn from.
#include "cli/data.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "data/conversation.h"

namespace hadal::cli {

namespace fs = std::filesystem;

Result<TokenizerFolder> OpenTokenizer(const std::string& path) {
  std::error_code error;
  const fs::path file =
      fs::is_directory(path, error) ? fs::path(path) / "tokenizer.json" : fs::path(path);
  const fs::path config_file = file.parent_path() / "tokenizer_config.json";
  const std::string json = TRY(ReadFile(file.string()));
  std::string config, chat_template(DefaultChatTemplate());
  if (fs::exists(config_file, error)) config = TRY(ReadFile(config_file.string()));
  if (!config.empty()) {
    const auto parsed = nlohmann::json::parse(config, nullptr, false);
    if (parsed.is_object() && parsed.contains("chat_template") &&
        parsed["chat_template"].is_string()) {
      chat_template = parsed["chat_template"].get<std::string>();
    }
  }
  auto tokenizer = Tokenizer::FromJson(json, config);
  if (!tokenizer.ok()) {
    return Error{tokenizer.error().code, file.string() + ": " + tokenizer.error().message};
  }
  return TokenizerFolder{std::move(*tokenizer), std::move(chat_template)};
}

void AddData(Verb& app, Status& status) {
  Verb* verb = app.add_subcommand("data", "Make, clean and look at training data");
  verb->require_subcommand(1);
  AddDataBuild(*verb, status);
  AddDataLook(*verb, status);
  AddDataTokenizer(*verb, status);
  AddDataProblems(*verb, status);
  verb->footer(
      "Examples:\n"
      "  hadal data tokenizer texts.jsonl.zst -o tok           train a tokenizer\n"
      "  hadal data build texts.jsonl.zst --tokenizer tok -o set   clean, split, write shards\n"
      "  hadal data look set/train --tokenizer tok             samples with their loss masks\n");
}

}  // namespace hadal::cli
