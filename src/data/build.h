// The steps in a row: sources, normalise, kind of text, quality, decontaminate, duplicates, split,
// tokenise, shards. What is dropped is counted by reason. Results depend on the input and options
// alone, not on threads.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "data/clean.h"
#include "data/decontaminate.h"
#include "data/dedup.h"
#include "data/pack.h"
#include "data/source.h"
#include "tokenizer/tokenizer.h"

namespace hadal {

struct BuildOptions {
  SourceOptions source;
  NormaliseOptions normalise;
  bool normalise_text = true, judge_quality = true, drop_exact = true, drop_near = true;
  QualityOptions quality;
  NearOptions near;
  DecontaminateOptions decontaminate;
  std::vector<std::string> against;  // files of evaluation items (Decontaminator::AddFile)
  std::vector<TextKind> kinds;       // kept; empty: all
  double validation = 0.01;          // share of documents, by hash of the text
  uint64_t seed = 0;                 // of that hash and of FIM
  bool bos = true, eos = true;       // around each document, where the tokenizer has them
  double fim_rate = 0;
  int64_t shard_tokens = 16ll << 20;
  std::string output;  // OUTPUT/train and OUTPUT/validation are made; neither may hold shards
  int threads = 1;     // <= 0: all
  int64_t report_drops = 20;  // examples of dropped documents kept
  // Called now and then with (files done, files in all); false stops with kCancelled.
  std::function<bool(int64_t, int64_t)> progress;
};

struct BuildReport {
  struct Kept {
    int64_t documents = 0, tokens = 0;
  };
  struct Drop {
    std::string where, reason;
  };
  int64_t documents = 0;  // read
  uint64_t bytes = 0;     // of their text
  int64_t bad_rows = 0;
  Kept train, validation;
  std::vector<std::pair<std::string, int64_t>> dropped;    // by reason, those that occurred
  std::vector<std::pair<std::string, int64_t>> items_hit;  // evaluation items, most hits first
  std::array<int64_t, kTextKinds> kind_bytes{};            // of the kept text
  std::vector<Drop> examples;
  int64_t near_forgotten = 0;
  double seconds = 0;
};

// Which side of the split a text is on: a function of (text, seed) alone.
bool IsValidation(std::string_view text, double share, uint64_t seed);

// kInvalid when nothing is left to write to train; an empty validation side is an error where
// `validation` asks for one. Nothing is left behind on errors.
Result<BuildReport> BuildDataset(const Tokenizer& tokenizer, const BuildOptions& options);

struct ConversationBuildOptions {
  std::vector<std::string> paths;  // JSONL of conversations, plain or zstd
  std::string chat_template;
  std::string output;
  double validation = 0.01;
  uint64_t seed = 0;
  int64_t max_tokens = 0;  // longer documents are dropped and counted; 0: any length
  int64_t shard_tokens = 16ll << 20;
};

// Conversations to shards with loss masks. Bad rows are errors that name file and line.
Result<BuildReport> BuildConversations(const Tokenizer& tokenizer,
                                       const ConversationBuildOptions& options);

}  // namespace hadal
