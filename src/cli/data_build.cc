// hadal data build: from texts or conversations to shards.
#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/progress.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/data.h"
#include "cli/flags.h"
#include "data/build.h"

namespace hadal::cli {
namespace {

using nlohmann::json;

struct Flags {
  BuildOptions options;
  std::string tokenizer, chat_template;
  std::vector<std::string> kinds;
  bool conversations = false, raw = false, any_quality = false, keep_exact = false,
       keep_near = false, no_bos = false, no_eos = false, json = false;
  int64_t max_tokens = 0;
};

std::vector<TextKind> Kinds(const std::vector<std::string>& names) {
  std::vector<TextKind> kinds;
  for (int k = 0; k < kTextKinds; ++k) {
    const auto kind = static_cast<TextKind>(k);
    if (std::find(names.begin(), names.end(), TextKindName(kind)) != names.end()) {
      kinds.push_back(kind);
    }
  }
  return kinds;
}

json ToJson(const BuildReport& r) {
  json dropped = json::object(), hits = json::object(), kinds = json::object();
  for (const auto& [reason, count] : r.dropped) dropped[reason] = count;
  for (const auto& [item, count] : r.items_hit) hits[item] = count;
  for (int k = 0; k < kTextKinds; ++k) {
    kinds[std::string(TextKindName(static_cast<TextKind>(k)))] =
        r.kind_bytes[static_cast<size_t>(k)];
  }
  json examples = json::array();
  for (const auto& drop : r.examples) {
    examples.push_back({{"where", drop.where}, {"reason", drop.reason}});
  }
  return {{"documents", r.documents},
          {"bytes", r.bytes},
          {"bad_rows", r.bad_rows},
          {"train", {{"documents", r.train.documents}, {"tokens", r.train.tokens}}},
          {"validation", {{"documents", r.validation.documents}, {"tokens", r.validation.tokens}}},
          {"dropped", std::move(dropped)},
          {"items_hit", std::move(hits)},
          {"kept_bytes", std::move(kinds)},
          {"examples", std::move(examples)},
          {"forgotten_signatures", r.near_forgotten},
          {"seconds", r.seconds}};
}

void Print(const BuildReport& r, const Flags& flags) {
  const auto megabytes = static_cast<double>(r.bytes) / 1e6;
  fmt::print("{} documents, {:.1f} MB read in {:.1f} s ({:.1f} MB/s)\n", r.documents, megabytes,
             r.seconds, megabytes / std::max(r.seconds, 1e-9));
  if (r.bad_rows > 0) fmt::print("{} rows without text skipped\n", r.bad_rows);
  for (const auto& [reason, count] : r.dropped) fmt::print("  dropped {:>8}  {}\n", count, reason);
  for (size_t i = 0; i < std::min<size_t>(r.items_hit.size(), 10); ++i) {
    fmt::print("    {} met {} times\n", Printable(r.items_hit[i].first), r.items_hit[i].second);
  }
  int64_t all = 0;
  for (const int64_t bytes : r.kind_bytes) all += bytes;
  for (int k = 0; k < kTextKinds && all > 0; ++k) {
    const double share =
        static_cast<double>(r.kind_bytes[static_cast<size_t>(k)]) / static_cast<double>(all);
    fmt::print("  {:<6} {:5.1f} %\n", TextKindName(static_cast<TextKind>(k)), 100 * share);
  }
  fmt::print("train       {:>9} documents {:>12} tokens  {}/train\n", r.train.documents,
             r.train.tokens, Printable(flags.options.output));
  if (flags.options.validation > 0) {
    fmt::print("validation  {:>9} documents {:>12} tokens  {}/validation\n", r.validation.documents,
               r.validation.tokens, Printable(flags.options.output));
  }
}

Result<BuildReport> Build(Flags& flags) {
  TokenizerFolder opened = TRY(OpenTokenizer(flags.tokenizer));
  BuildOptions& o = flags.options;
  if (flags.conversations) {
    if (!flags.chat_template.empty()) opened.chat_template = TRY(ReadFile(flags.chat_template));
    return BuildConversations(opened.tokenizer, {.paths = o.source.paths,
                                                 .chat_template = opened.chat_template,
                                                 .output = o.output,
                                                 .validation = o.validation,
                                                 .seed = o.seed,
                                                 .max_tokens = flags.max_tokens,
                                                 .shard_tokens = o.shard_tokens});
  }
  o.normalise_text = !flags.raw;
  o.judge_quality = !flags.any_quality;
  o.drop_exact = !flags.keep_exact;
  o.drop_near = !flags.keep_near;
  o.bos = !flags.no_bos;
  o.eos = !flags.no_eos;
  o.kinds = Kinds(flags.kinds);
  const InterruptGuard guard;
  Progress bar("build", Progress::Unit::kCount);
  o.progress = [&](int64_t done, int64_t files) {
    bar.Update(done, files);
    return !InterruptGuard::interrupted();
  };
  return BuildDataset(opened.tokenizer, o);
}

Status Run(Flags& flags) {
  const BuildReport report = TRY(Build(flags));
  if (flags.json) {
    fmt::print("{}\n", ToJson(report).dump(2, ' ', false, json::error_handler_t::replace));
  } else {
    Print(report, flags);
  }
  return {};
}

void AddCleaning(Verb& verb, Flags& f) {
  BuildOptions& o = f.options;
  verb.add_flag("--raw", f.raw, "Leave Unicode form, line ends and control characters as they are");
  verb.add_flag("--any-quality", f.any_quality, "Keep what the quality rules would drop");
  verb.add_option("--min-words", o.quality.min_words, "Shorter documents are dropped")
      ->capture_default_str();
  verb.add_flag("--keep-exact", f.keep_exact, "Keep exact duplicates");
  verb.add_flag("--keep-near", f.keep_near, "Keep near duplicates");
  verb.add_option("--near-threshold", o.near.threshold, "Similarity that makes a near duplicate")
      ->check(Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--against", o.against,
                  "Evaluation files: documents that hold an item are dropped");
  verb.add_option("--kinds", f.kinds, "Keep these only: en, zh, code, other")
      ->delimiter(',')
      ->check(OneOf({"en", "zh", "code", "other"}));
}

}  // namespace

void AddDataBuild(Verb& data, Status& status) {
  auto flags = std::make_shared<Flags>();
  BuildOptions& o = flags->options;
  o.threads = 0;
  Verb* verb = data.add_subcommand("build", "Clean, deduplicate, split and tokenise into shards");
  verb->add_option("input", o.source.paths,
                   "Text, JSONL, zstd of either, folders of them or of code")
      ->required();
  verb->add_option("--tokenizer", flags->tokenizer, "tokenizer.json or its folder")->required();
  verb->add_option("-o,--output", o.output, "Folder to make train/ and validation/ in")->required();
  verb->add_option("--text-key", o.source.text_key, "Key of a JSONL row's text")
      ->capture_default_str();
  verb->add_flag("--skip-bad-rows", o.source.skip_bad_rows, "Count rows without text, go on");
  AddCleaning(*verb, *flags);
  verb->add_option("--validation", o.validation, "Share of documents held out, by hash")
      ->check(Range(0.0, 1.0))
      ->capture_default_str();
  verb->add_option("--seed", o.seed, "Of the split and of fill-in-the-middle")
      ->capture_default_str();
  verb->add_option("--fim", o.fim_rate, "Share of documents rearranged for fill-in-the-middle")
      ->check(Range(0.0, 1.0))
      ->capture_default_str();
  verb->add_flag("--no-bos", flags->no_bos, "No begin token before documents");
  verb->add_flag("--no-eos", flags->no_eos, "No end token after documents");
  verb->add_option("--shard-tokens", o.shard_tokens, "A shard ends at the first document past this")
      ->check(Range(int64_t{1}, int64_t{1} << 32))
      ->capture_default_str();
  verb->add_flag("--conversations", flags->conversations,
                 "Rows are {\"messages\": [...]}; loss on what the assistant writes");
  verb->add_option("--chat-template", flags->chat_template,
                   "Template file; default the tokenizer's");
  verb->add_option("--max-tokens", flags->max_tokens, "Longer conversations are dropped; 0: none")
      ->capture_default_str();
  AddThreads(*verb, o.threads);
  AddJson(*verb, flags->json);
  verb->footer(
      "Example:\n  hadal data build texts.jsonl.zst --tokenizer tok -o set --against "
      "gsm8k.jsonl\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
