// Recipe stages that make data: problems, a tokenizer, shards.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/data.h"
#include "cli/recipe.h"
#include "data/build.h"
#include "data/conversation.h"
#include "data/problems.h"
#include "data/shard.h"
#include "data/source.h"
#include "tokenizer/bpe_trainer.h"
#include "tokenizer/tokenizer.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::json;

constexpr size_t kTrainerTexts = 4096;  // handed to the tokenizer's trainer at a time

Result<std::vector<std::string>> Paths(const StageCall& call, std::string_view key) {
  std::vector<std::string> paths = TRY(call.table.Texts(key));
  if (paths.empty()) return call.table.At(key, "missing; a list of files or folders is needed");
  for (std::string& p : paths) p = TRY(call.run.Resolve(call.table, key, p));
  return paths;
}

}  // namespace

Result<std::vector<Family>> ReadFamilies(ConfigTable& t) {
  std::vector<Family> families;
  for (const std::string& name : TRY(t.Texts("families"))) {
    const auto family = FamilyFromName(name);
    if (!family) {
      const std::string near = Nearest(name, FamilyNames());
      return t.At("families", "\"" + name + "\" is no family" +
                                  (near.empty() ? "" : "; did you mean \"" + near + "\"?"));
    }
    families.push_back(*family);
  }
  return families;
}

Result<ProblemMix> ReadMix(const StageCall& call) {
  ProblemMix mix;
  ConfigTable& t = call.table;
  mix.families = TRY(ReadFamilies(t));
  if (mix.families.empty()) {
    for (const std::string& name : FamilyNames()) mix.families.push_back(*FamilyFromName(name));
  }
  for (const double level : TRY(t.Numbers("levels"))) {
    if (level < 1 || level > kLevels || level != static_cast<int>(level)) {
      return t.At("levels", fmt::format("levels are 1 to {}", kLevels));
    }
    mix.levels.push_back(static_cast<int>(level));
  }
  if (mix.levels.empty()) mix.levels = {1, 2, 3, 4};
  for (const std::string& name : TRY(t.Texts("languages"))) {
    if (name != "en" && name != "zh") return t.At("languages", "\"en\" and \"zh\" are known");
    mix.languages.push_back(name == "en" ? Language::kEnglish : Language::kChinese);
  }
  if (mix.languages.empty()) mix.languages = {Language::kEnglish};
  mix.seed = static_cast<uint64_t>(
      TRY(t.Integer("seed", 0, int64_t{1} << 40, static_cast<int64_t>(call.run.seed))));
  return mix;
}

ProblemCycle::ProblemCycle(const ProblemMix& mix, Split split) {
  for (const int level : mix.levels) {
    for (const Family family : mix.families) {
      for (const Language language : mix.languages) {
        const auto known = std::find_if(streams_.begin(), streams_.end(), [&](const auto& stream) {
          const ProblemStreamOptions& o = stream.options();
          return o.family == family && o.level == level && o.language == language;
        });
        turns_.push_back(static_cast<size_t>(known - streams_.begin()));
        if (known != streams_.end()) continue;
        streams_.emplace_back(ProblemStreamOptions{mix.seed, family, level, language, split});
      }
    }
  }
}

Problem ProblemCycle::Next() { return streams_[turns_[next_++ % turns_.size()]].Next(); }

namespace {

Status WriteProblems(const ProblemMix& mix, Split split, int64_t items, const std::string& stem) {
  ProblemCycle cycle(mix, split);
  AtomicFile talks = TRY(AtomicFile::Create(stem + ".jsonl"));
  AtomicFile documents = TRY(AtomicFile::Create(stem + ".documents.jsonl"));
  for (int64_t i = 0; i < items; ++i) {
    const Problem p = cycle.Next();
    TRY(talks.Write(ConversationJson(p) + "\n"));
    TRY(documents.Write(
        Json{{"text", DocumentText(p)}}.dump(-1, ' ', false, Json::error_handler_t::replace) +
        "\n"));
  }
  TRY(talks.Commit());
  return documents.Commit();
}

}  // namespace

// Leaves train.jsonl and validation.jsonl (conversations) and the same as *.documents.jsonl.
Status RunProblems(const StageCall& call) {
  const ProblemMix mix = TRY(ReadMix(call));
  const int64_t items = TRY(call.table.Integer("items", 1, int64_t{1} << 32));
  const int64_t held_out = TRY(call.table.Integer("validation_items", 0, int64_t{1} << 32, 0));
  TRY(call.table.Finish());
  if (call.check_only) return {};
  TRY(WriteProblems(mix, Split::kTrain, items, call.folder + "/train"));
  if (held_out == 0) return {};
  return WriteProblems(mix, Split::kValidation, held_out, call.folder + "/validation");
}

namespace {

struct TokenizerStage {
  BpeTrainerOptions options;
  std::vector<std::string> sources;
  bool thinking = true;
};

Result<TokenizerStage> ReadTokenizer(const StageCall& call) {
  static constexpr std::array<std::string_view, 3> kDigits = {"whole", "single", "threes"};
  static constexpr std::array<std::string_view, 2> kPatterns = {"deepseek-v3", "gpt-2"};
  ConfigTable& t = call.table;
  TokenizerStage stage;
  stage.options.vocab_size = TRY(t.Integer("vocab_size", 276, 1 << 24, 4096));
  stage.options.digits =
      static_cast<BpeTrainerOptions::Digits>(TRY(t.Choice("digits", kDigits, 1)));
  stage.options.pattern =
      static_cast<BpeTrainerOptions::Pattern>(TRY(t.Choice("pattern", kPatterns, 0)));
  stage.options.threads = call.run.exec.threads();
  stage.sources = TRY(Paths(call, "sources"));
  TRY(t.Finish());
  return stage;
}

Status AddTexts(const std::vector<std::string>& paths, BpeTrainer& trainer) {
  DocumentSource source = TRY(DocumentSource::Open({.paths = paths}));
  std::vector<std::string> texts;
  const auto flush = [&] {
    std::vector<std::string_view> views(texts.begin(), texts.end());
    trainer.Add(views);
    texts.clear();
  };
  while (true) {
    std::optional<Document> d = TRY(source.Next());
    if (!d) break;
    texts.push_back(std::move(d->text));
    if (texts.size() == kTrainerTexts) flush();
  }
  flush();
  return {};
}

}  // namespace

// Leaves tokenizer.json, tokenizer_config.json (with the chat template) and generation_config.json.
Status RunTokenizer(const StageCall& call) {
  const TokenizerStage stage = TRY(ReadTokenizer(call));
  if (call.check_only) return {};
  BpeTrainer trainer = TRY(BpeTrainer::Create(stage.options));
  TRY(AddTexts(stage.sources, trainer));
  const BpeTraining result = TRY(trainer.Train());
  Json config = Json::parse(result.tokenizer_config_json);
  config["chat_template"] = DefaultChatTemplate();
  TRY(WriteFileAtomic(call.folder + "/tokenizer.json", result.tokenizer_json));
  TRY(WriteFileAtomic(call.folder + "/tokenizer_config.json", config.dump(2) + "\n"));
  const Tokenizer tokenizer =
      TRY(Tokenizer::FromJson(result.tokenizer_json, result.tokenizer_config_json));
  Json generation = Json::object();
  if (tokenizer.bos()) generation["bos_token_id"] = *tokenizer.bos();
  if (tokenizer.eos()) generation["eos_token_id"] = *tokenizer.eos();
  return WriteFileAtomic(call.folder + "/generation_config.json", generation.dump(2) + "\n");
}

namespace {

Json Summary(const BuildReport& r) {
  Json dropped = Json::object();
  for (const auto& [reason, count] : r.dropped) dropped[reason] = count;
  return {{"documents", r.documents},
          {"bytes", r.bytes},
          {"bad_rows", r.bad_rows},
          {"train", {{"documents", r.train.documents}, {"tokens", r.train.tokens}}},
          {"validation", {{"documents", r.validation.documents}, {"tokens", r.validation.tokens}}},
          {"dropped", dropped},
          {"seconds", r.seconds}};
}

struct DatasetStage {
  std::string tokenizer;
  enum { kText, kConversation, kStream } format = kText;
  BuildOptions text;
  ConversationBuildOptions talks;
  int64_t offsets = 1, offset_tokens = 16;  // stream
};

Result<DatasetStage> ReadDataset(const StageCall& call) {
  static constexpr std::array<std::string_view, 3> kFormats = {"text", "conversation", "stream"};
  ConfigTable& t = call.table;
  DatasetStage s;
  s.tokenizer = TRY(call.run.Resolve(t, "tokenizer", TRY(t.Text("tokenizer"))));
  s.format = static_cast<decltype(s.format)>(TRY(t.Choice("format", kFormats, 0)));
  const std::vector<std::string> sources = TRY(Paths(call, "sources"));
  const double validation = TRY(t.Number("validation", 0, 0.5, 0.01));
  const auto seed = static_cast<uint64_t>(
      TRY(t.Integer("seed", 0, int64_t{1} << 40, static_cast<int64_t>(call.run.seed))));
  const int64_t shard_tokens = TRY(t.Integer("shard_tokens", 1024, int64_t{1} << 32, 16 << 20));
  if (s.format == DatasetStage::kStream) {
    s.text.source.paths = sources;
    s.text.source.max_document_bytes = uint64_t{1} << 32;
    s.text.source.text_key = TRY(t.Text("text_key", "text"));
    s.text.validation = validation;
    s.text.shard_tokens = shard_tokens;
    s.offsets = TRY(t.Integer("offsets", 1, 1 << 16, 1));
    s.offset_tokens = TRY(t.Integer("offset_tokens", 1, 1 << 20, s.offset_tokens));
  } else if (s.format == DatasetStage::kConversation) {
    s.talks.paths = sources;
    s.talks.output = call.folder;
    s.talks.validation = validation;
    s.talks.seed = seed;
    s.talks.shard_tokens = shard_tokens;
    s.talks.max_tokens = TRY(t.Integer("max_tokens", 0, 1 << 24, 0));
  } else {
    BuildOptions& o = s.text;
    o.source.paths = sources;
    o.output = call.folder;
    o.validation = validation;
    o.seed = seed;
    o.shard_tokens = shard_tokens;
    o.threads = call.run.exec.threads();
    o.source.text_key = TRY(t.Text("text_key", "text"));
    o.normalise_text = TRY(t.Flag("normalise", true));
    o.judge_quality = TRY(t.Flag("quality", true));
    o.drop_exact = TRY(t.Flag("drop_exact", true));
    o.drop_near = TRY(t.Flag("drop_near", true));
    o.fim_rate = TRY(t.Number("fim_rate", 0, 1, 0.0));
    for (const std::string& p : TRY(t.Texts("decontaminate"))) {
      o.against.push_back(TRY(call.run.Resolve(t, "decontaminate", p)));
    }
  }
  TRY(t.Finish());
  return s;
}

// Each source is one long text whose last part is held out. The rest is written `offsets` times,
// each time from a few tokens further on, so that cutting it into sequences falls elsewhere.
Status BuildStream(const Tokenizer& tokenizer, const DatasetStage& stage,
                   const std::string& folder) {
  const std::string hash = TokenizerHash(tokenizer);
  const auto open = [&](const char* side) {
    return ShardWriter::Create({.folder = folder + "/" + side,
                                .tokenizer_hash = hash,
                                .vocab_size = tokenizer.vocab_size(),
                                .shard_tokens = stage.text.shard_tokens});
  };
  ShardWriter train = TRY(open("train")), held_out = TRY(open("validation"));
  DocumentSource source = TRY(DocumentSource::Open(stage.text.source));
  while (true) {
    const std::optional<Document> d = TRY(source.Next());
    if (!d) break;
    const auto cut =
        static_cast<size_t>(static_cast<double>(d->text.size()) * (1 - stage.text.validation));
    const std::vector<TokenId> ids = tokenizer.Encode(std::string_view(d->text).substr(0, cut));
    for (int64_t i = 0; i < stage.offsets; ++i) {
      const auto skip = static_cast<size_t>(i * stage.offset_tokens);
      if (skip < ids.size()) TRY(train.Add(std::span(ids).subspan(skip)));
    }
    TRY(held_out.Add(tokenizer.Encode(std::string_view(d->text).substr(cut))));
  }
  TRY(train.Finish());
  return held_out.Finish();
}

}  // namespace

// Leaves train/ and validation/ shards and build.json, what was kept and dropped.
Status RunDataset(const StageCall& call) {
  DatasetStage stage = TRY(ReadDataset(call));
  if (call.check_only) return {};
  const TokenizerFolder opened = TRY(OpenTokenizer(stage.tokenizer));
  const Tokenizer& tokenizer = opened.tokenizer;
  stage.talks.chat_template = opened.chat_template;
  if (stage.format == DatasetStage::kStream) return BuildStream(tokenizer, stage, call.folder);
  const BuildReport report = stage.format == DatasetStage::kConversation
                                 ? TRY(BuildConversations(tokenizer, stage.talks))
                                 : TRY(BuildDataset(tokenizer, stage.text));
  return WriteFileAtomic(call.folder + "/build.json", Summary(report).dump(2) + "\n");
}

}  // namespace hadal::cli
