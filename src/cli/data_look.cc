// hadal data look: samples as the model gets them, with their loss masks.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "base/file.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/data.h"
#include "data/conversation.h"
#include "data/loader.h"
#include "data/look.h"
#include "data/shard.h"
#include "data/source.h"

namespace hadal::cli {
namespace {

struct Flags {
  std::string path, tokenizer, chat_template, colour = "auto";
  int64_t count = 3, length = 512;
  uint64_t seed = 0;
  bool in_order = false;
  LookOptions look;
};

Result<std::vector<PackedSequence>> FromConversations(const TokenizerFolder& opened,
                                                      const Flags& flags) {
  const std::string own =
      flags.chat_template.empty() ? opened.chat_template : TRY(ReadFile(flags.chat_template));
  const auto renderer = TRY(ConversationRenderer::Create(opened.tokenizer, own));
  auto lines = TRY(LineSource::Open(flags.path));
  std::vector<PackedSequence> samples;
  std::string line;
  while (static_cast<int64_t>(samples.size()) < flags.count && TRY(lines.Next(&line))) {
    if (line.empty()) continue;
    const std::string where = flags.path + ":" + std::to_string(lines.line_number()) + ": ";
    const auto messages = ParseConversation(line);
    if (!messages.ok()) return Error{messages.error().code, where + messages.error().message};
    auto documents = renderer.Render(*messages);
    if (!documents.ok()) return Error{documents.error().code, where + documents.error().message};
    for (TokenDocument& d : *documents) {
      samples.push_back({std::move(d.ids), std::move(d.loss), {0}});
    }
  }
  return samples;
}

Result<std::vector<PackedSequence>> FromShards(const TokenizerFolder& opened, const Flags& flags) {
  auto loader = TRY(Loader::Open({.sets = {{flags.path, 1}},
                                  .sequence_length = flags.length,
                                  .seed = flags.seed,
                                  .shuffle = !flags.in_order,
                                  .once = true,
                                  .tokenizer_hash = TokenizerHash(opened.tokenizer)}));
  return loader.Next(flags.count);
}

Status Run(Flags& flags) {
  const TokenizerFolder opened = TRY(OpenTokenizer(flags.tokenizer));
  const bool rows = flags.path.find(".jsonl") != std::string::npos;
  const auto samples = TRY(rows ? FromConversations(opened, flags) : FromShards(opened, flags));
  flags.look.colour =
      flags.colour == "always" ||
      (flags.colour == "auto" && IsTerminal(STDOUT_FILENO) && std::getenv("NO_COLOR") == nullptr);
  for (size_t i = 0; i < samples.size(); ++i) {
    fmt::print("== sample {} of {}: {} tokens\n{}", i + 1, samples.size(), samples[i].tokens.size(),
               RenderSample(opened.tokenizer, samples[i], flags.look));
  }
  return {};
}

}  // namespace

void AddDataLook(Verb& data, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = data.add_subcommand("look", "Show samples, what is learnt from them in colour");
  verb->add_option("path", flags->path, "Folder of shards, a shard, or a .jsonl of conversations")
      ->required();
  verb->add_option("--tokenizer", flags->tokenizer, "tokenizer.json or its folder")->required();
  verb->add_option("-n,--count", flags->count, "Samples")
      ->check(Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  verb->add_option("--length", flags->length, "Tokens a sequence")->capture_default_str();
  verb->add_option("--seed", flags->seed, "Of the shuffle")->capture_default_str();
  verb->add_flag("--in-order", flags->in_order, "No shuffle");
  verb->add_flag("--tokens", flags->look.tokens, "A bar after every token");
  verb->add_option("--max-tokens", flags->look.max_tokens, "Shown of a sample; 0: all")
      ->check(Range(int64_t{0}, int64_t{1} << 28))
      ->capture_default_str();
  verb->add_option("--chat-template", flags->chat_template,
                   "Template file; default the tokenizer's");
  verb->add_option("--colour", flags->colour, "auto, always or never")
      ->check(OneOf({"auto", "always", "never"}))
      ->capture_default_str();
  verb->footer(
      "Green (or between « and ») is what the model learns to write, grey is what it is given.\n"
      "Example:\n  hadal data look set/train --tokenizer tok -n 1\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
