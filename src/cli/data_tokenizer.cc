// hadal data tokenizer: a vocabulary from texts.
#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/progress.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/data.h"
#include "cli/flags.h"
#include "data/clean.h"
#include "data/conversation.h"
#include "data/source.h"
#include "tokenizer/bpe_trainer.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Digits = BpeTrainerOptions::Digits;
using Pattern = BpeTrainerOptions::Pattern;

constexpr size_t kBatchBytes = 16 << 20;

const std::map<std::string, Digits> kDigits = {
    {"whole", Digits::kWhole}, {"single", Digits::kSingle}, {"threes", Digits::kThrees}};
const std::map<std::string, Pattern> kPatterns = {{"deepseek-v3", Pattern::kDeepSeekV3},
                                                  {"gpt-2", Pattern::kGpt2}};

struct Flags {
  SourceOptions source;
  BpeTrainerOptions options;
  std::string output, digits = "threes", pattern = "deepseek-v3";
  bool raw = false, force = false, json = false;
};

Status Feed(const Flags& flags, BpeTrainer& trainer) {
  auto source = TRY(DocumentSource::Open(flags.source));
  const InterruptGuard guard;
  Progress bar("tokenizer", Progress::Unit::kCount);
  std::vector<std::string> texts;
  size_t bytes = 0;
  while (true) {
    auto document = TRY(source.Next());
    if (document) {
      bytes += document->text.size();
      texts.push_back(flags.raw ? std::move(document->text) : Normalise(document->text));
    }
    if (!document || bytes > kBatchBytes) {
      trainer.Add(std::vector<std::string_view>(texts.begin(), texts.end()));
      texts.clear();
      bytes = 0;
      bar.Update(source.files_done(), static_cast<int64_t>(source.files().size()));
    }
    if (InterruptGuard::interrupted()) return Error{Code::kCancelled, "training was stopped"};
    if (!document) return {};
  }
}

Status Run(Flags& flags) {
  flags.options.digits = kDigits.at(flags.digits);
  flags.options.pattern = kPatterns.at(flags.pattern);
  const fs::path folder(flags.output), file = folder / "tokenizer.json";
  std::error_code error;
  if (fs::exists(file, error) && !flags.force) {
    return Error{Code::kInvalid, file.string() + " exists: --force replaces it"};
  }
  auto trainer = TRY(BpeTrainer::Create(flags.options));
  TRY(Feed(flags, trainer));
  const BpeTraining made = TRY(trainer.Train());
  fs::create_directories(folder, error);
  if (error) return Error{Code::kIo, "cannot make folder " + flags.output + ": " + error.message()};
  json config = json::parse(made.tokenizer_config_json);
  config["chat_template"] = DefaultChatTemplate();
  TRY(WriteFileAtomic((folder / "tokenizer_config.json").string(), config.dump(2) + "\n"));
  TRY(WriteFileAtomic(file.string(), made.tokenizer_json));
  if (flags.json) {
    const json out = {{"output", flags.output},
                      {"vocabulary", made.vocab_size},
                      {"words", made.words},
                      {"bytes", made.bytes},
                      {"count_seconds", made.count_seconds},
                      {"merge_seconds", made.merge_seconds}};
    fmt::print("{}\n", out.dump(2, ' ', false, json::error_handler_t::replace));
    return {};
  }
  fmt::print("{}: {} tokens from {:.1f} MB, {} different words, {:.1f} s\n",
             Printable(file.string()), made.vocab_size, static_cast<double>(made.bytes) / 1e6,
             made.words, made.count_seconds + made.merge_seconds);
  if (made.vocab_size < flags.options.vocab_size) {
    fmt::print("fewer than the {} asked for: no pair of tokens is left that occurs {} times\n",
               flags.options.vocab_size, flags.options.min_count);
  }
  return {};
}

}  // namespace

void AddDataTokenizer(Verb& data, Status& status) {
  auto flags = std::make_shared<Flags>();
  flags->options.threads = 0;
  Verb* verb = data.add_subcommand("tokenizer", "Train a byte-level BPE tokenizer");
  verb->add_option("input", flags->source.paths,
                   "Text, JSONL, zstd of either, folders of them or of code")
      ->required();
  verb->add_option("-o,--output", flags->output, "Folder for tokenizer.json and its configuration")
      ->required();
  verb->add_option("--vocab", flags->options.vocab_size, "Tokens, special ones included")
      ->capture_default_str();
  verb->add_option("--digits", flags->digits, "Numbers: whole, single digits, or groups of threes")
      ->check(OneOf({"whole", "single", "threes"}))
      ->capture_default_str();
  verb->add_option("--pattern", flags->pattern, "How text is cut: deepseek-v3 or gpt-2")
      ->check(OneOf({"deepseek-v3", "gpt-2"}))
      ->capture_default_str();
  verb->add_option("--text-key", flags->source.text_key, "Key of a JSONL row's text")
      ->capture_default_str();
  verb->add_flag("--raw", flags->raw, "Take texts as they are, without normalising");
  verb->add_flag("--force", flags->force, "Replace an existing tokenizer");
  AddThreads(*verb, flags->options.threads);
  AddJson(*verb, flags->json);
  verb->footer(
      "Example:\n  hadal data tokenizer texts.jsonl.zst -o tok --vocab 8192 --digits single\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
