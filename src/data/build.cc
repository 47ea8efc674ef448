#include "data/build.h"

#include <xxhash.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "base/thread_pool.h"
#include "data/internal_build.h"

namespace hadal {
namespace {

// Documents are worked on in batches: enough for every thread, little enough to hold.
constexpr size_t kBatchDocuments = 512;
constexpr size_t kBatchBytes = 8 << 20;

struct Item {
  std::string text, where;
  TextKind kind = TextKind::kOther;
  std::string_view dropped;  // the reason; empty: kept so far
  std::optional<Decontaminator::Hit> hit;
  ContentHash hash;
  Signature signature;
  std::vector<TokenId> ids;
};

class Builder {
 public:
  Builder(const Tokenizer& tokenizer, const BuildOptions& options, internal::SplitWriter writer)
      : tokenizer_(tokenizer),
        options_(options),
        writer_(std::move(writer)),
        pool_(options.threads),
        near_(options.near),
        decontaminator_(options.decontaminate) {}

  Status Prepare();
  Status Run();
  BuildReport Take() { return std::move(report_); }

 private:
  Result<bool> ReadBatch(DocumentSource* source);
  void Clean(Item* item) const;
  void DropDuplicates(Item* item);
  void Encode(Item* item) const;
  Status Write(const Item& item);

  const Tokenizer& tokenizer_;
  const BuildOptions& options_;
  internal::SplitWriter writer_;
  ThreadPool pool_;
  ExactIndex exact_;
  NearIndex near_;
  Decontaminator decontaminator_;
  std::optional<FimTokens> fim_;
  std::vector<Item> batch_;
  std::map<std::string, int64_t> dropped_, hits_;
  BuildReport report_;
};

Status Builder::Prepare() {
  if (options_.fim_rate > 0) {
    fim_ = FindFimTokens(tokenizer_);
    if (!fim_) {
      return Error{Code::kInvalid,
                   "fill-in-the-middle was asked for, but the tokenizer has no <｜fim▁begin｜>, "
                   "<｜fim▁hole｜> and <｜fim▁end｜>"};
    }
  }
  for (const std::string& path : options_.against) TRY(decontaminator_.AddFile(path));
  return {};
}

Result<bool> Builder::ReadBatch(DocumentSource* source) {
  batch_.clear();
  size_t bytes = 0;
  while (batch_.size() < kBatchDocuments && bytes < kBatchBytes) {
    auto document = TRY(source->Next());
    if (!document) break;
    bytes += document->text.size();
    Item& item = batch_.emplace_back();
    item.text = std::move(document->text);
    item.where = std::move(document->where);
  }
  return !batch_.empty();
}

// What can be said of a document alone; documents in parallel.
void Builder::Clean(Item* item) const {
  if (options_.normalise_text) item->text = Normalise(item->text, options_.normalise);
  if (item->text.empty()) {
    item->dropped = QualityName(Quality::kEmpty);
    return;
  }
  item->kind = EstimateTextKind(item->text);
  if (!options_.kinds.empty() &&
      std::find(options_.kinds.begin(), options_.kinds.end(), item->kind) == options_.kinds.end()) {
    item->dropped = "other language";
    return;
  }
  if (options_.judge_quality) {
    const Quality quality = JudgeQuality(item->text, item->kind, options_.quality);
    if (quality != Quality::kKeep) {
      item->dropped = QualityName(quality);
      return;
    }
  }
  if (!options_.against.empty()) item->hit = decontaminator_.Find(item->text);
  if (item->hit) {
    item->dropped = "contaminated";
    return;
  }
  if (options_.drop_exact) item->hash = HashContent(item->text);
  if (options_.drop_near) item->signature = MinHash(item->text);
}

void Builder::DropDuplicates(Item* item) {
  if (!item->dropped.empty()) return;
  if (options_.drop_exact && !exact_.Insert(item->hash)) {
    item->dropped = "exact duplicate";
  } else if (options_.drop_near && near_.Insert(item->signature)) {
    item->dropped = "near duplicate";
  }
}

void Builder::Encode(Item* item) const {
  if (!item->dropped.empty()) return;
  const auto bos = tokenizer_.bos(), eos = tokenizer_.eos();
  std::vector<TokenId> text =
      fim_ ? EncodeWithFim(tokenizer_, item->text, *fim_,
                           {.rate = options_.fim_rate, .seed = options_.seed})
           : tokenizer_.Encode(item->text);
  if (options_.bos && bos) item->ids.push_back(*bos);
  item->ids.insert(item->ids.end(), text.begin(), text.end());
  if (options_.eos && eos) item->ids.push_back(*eos);
}

Status Builder::Write(const Item& item) {
  ++report_.documents;
  if (item.dropped.empty()) {
    report_.kind_bytes[static_cast<size_t>(item.kind)] += static_cast<int64_t>(item.text.size());
    return writer_.Add(IsValidation(item.text, options_.validation, options_.seed), item.ids);
  }
  ++dropped_[std::string(item.dropped)];
  std::string reason(item.dropped);
  if (item.hit) {
    ++hits_[item.hit->name];
    reason += " by " + item.hit->name + ": " + item.hit->words.substr(0, 120);
  }
  if (static_cast<int64_t>(report_.examples.size()) < options_.report_drops) {
    report_.examples.push_back({item.where, std::move(reason)});
  }
  return {};
}

Status Builder::Run() {
  auto source = TRY(DocumentSource::Open(options_.source));
  const auto files = static_cast<int64_t>(source.files().size());
  while (TRY(ReadBatch(&source))) {
    const auto count = static_cast<int64_t>(batch_.size());
    const auto at = [&](int64_t i) { return &batch_[static_cast<size_t>(i)]; };
    pool_.For(count, [&](int64_t i, int) { Clean(at(i)); });
    for (Item& item : batch_) DropDuplicates(&item);
    pool_.For(count, [&](int64_t i, int) { Encode(at(i)); });
    for (const Item& item : batch_) TRY(Write(item));
    if (options_.progress && !options_.progress(source.files_done(), files)) {
      return Error{Code::kCancelled, "building was stopped"};
    }
  }
  report_.bytes = source.text_bytes();
  report_.bad_rows = source.bad_rows();
  report_.dropped = internal::MostFirst(dropped_);
  report_.items_hit = internal::MostFirst(hits_);
  report_.near_forgotten = near_.forgotten();
  return writer_.Finish(&report_);
}

Status CheckOptions(const BuildOptions& options) {
  if (!(options.fim_rate >= 0 && options.fim_rate <= 1)) {
    return Error{Code::kInvalid, "a fill-in-the-middle rate of " +
                                     std::to_string(options.fim_rate) + " is outside 0 to 1"};
  }
  const NearOptions& near = options.near;
  if (near.bands < 1 || near.rows < 1 || near.bands > kPermutations || near.rows > kPermutations ||
      near.bands * near.rows > kPermutations || near.max_documents < 1 ||
      near.max_documents >= UINT32_MAX || !(near.threshold >= 0 && near.threshold <= 1)) {
    return Error{Code::kInvalid,
                 "near duplicates need bands × rows of 1 to 128, a threshold of 0 to "
                 "1 and 1 to 2^32 documents to remember"};
  }
  const DecontaminateOptions& d = options.decontaminate;
  if (d.words < 1 || d.characters < 1 || d.min_words < 1) {
    return Error{Code::kInvalid, "runs that decontamination looks for need at least 1 word"};
  }
  return {};
}

}  // namespace

bool IsValidation(std::string_view text, double share, uint64_t seed) {
  const uint64_t hash = XXH3_64bits_withSeed(text.data(), text.size(), seed ^ 0x5B117);
  return static_cast<double>(hash >> 11) * 0x1p-53 < share;
}

Result<BuildReport> BuildDataset(const Tokenizer& tokenizer, const BuildOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  TRY(CheckOptions(options));
  Builder builder(tokenizer, options,
                  TRY(internal::SplitWriter::Create(tokenizer, options.output, options.validation,
                                                    options.shard_tokens)));
  TRY(builder.Prepare());
  TRY(builder.Run());
  BuildReport report = builder.Take();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace hadal
