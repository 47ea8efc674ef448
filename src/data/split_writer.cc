#include <algorithm>
#include <filesystem>

#include "data/internal_build.h"

namespace hadal::internal {
namespace {

namespace fs = std::filesystem;

}  // namespace

Status SplitWriter::Open(Side* side, const Tokenizer& tokenizer, int64_t shard_tokens) {
  std::error_code error;
  side->made = !fs::exists(side->folder, error);
  side->writer = TRY(ShardWriter::Create({.folder = side->folder,
                                          .tokenizer_hash = TokenizerHash(tokenizer),
                                          .vocab_size = tokenizer.vocab_size(),
                                          .shard_tokens = shard_tokens}));
  return {};
}

Result<SplitWriter> SplitWriter::Create(const Tokenizer& tokenizer, const std::string& output,
                                        double validation, int64_t shard_tokens) {
  if (!(validation >= 0 && validation < 1)) {
    return Error{Code::kInvalid, "a validation share of " + std::to_string(validation) +
                                     " is outside 0 to 1 (1 itself leaves nothing to train on)"};
  }
  if (shard_tokens < 1) return Error{Code::kInvalid, "a shard needs room for at least 1 token"};
  if (output.empty()) return Error{Code::kInvalid, "no output folder was given"};
  SplitWriter writer;
  std::error_code error;
  writer.output_ = output;
  writer.made_output_ = !fs::exists(output, error);
  writer.share_ = validation;
  for (const char* name : {"train", "validation"}) {
    if (name[0] == 'v' && validation == 0) continue;
    writer.sides_.push_back({(fs::path(output) / name).string(), false, std::nullopt});
    TRY(writer.Open(&writer.sides_.back(), tokenizer, shard_tokens));
  }
  return writer;
}

SplitWriter::~SplitWriter() {
  std::error_code ignored;
  for (const Side& side : sides_) {
    if (!side.writer) continue;  // not ours: making it failed
    if (side.made) {
      fs::remove_all(side.folder, ignored);
      continue;
    }
    for (fs::directory_iterator it(side.folder, ignored), end; !ignored && it != end;
         it.increment(ignored)) {
      if (it->path().extension() == ".shard") fs::remove(it->path(), ignored);
    }
  }
  if (made_output_ && !sides_.empty()) fs::remove(output_, ignored);  // only when empty
}

Status SplitWriter::Add(bool validation, std::span<const TokenId> ids,
                        std::span<const uint8_t> loss) {
  return sides_[validation && sides_.size() > 1 ? 1 : 0].writer->Add(ids, loss);
}

Status SplitWriter::Finish(BuildReport* report) {
  const int64_t train = sides_[0].writer->documents();
  const int64_t held = sides_.size() > 1 ? sides_[1].writer->documents() : 0;
  if (train == 0) {
    return Error{Code::kInvalid,
                 "nothing is left to train on: all documents were empty, dropped or "
                 "put into the validation split"};
  }
  if (sides_.size() > 1 && held == 0) {
    return Error{Code::kInvalid, "the validation split is empty: a share of " +
                                     std::to_string(share_) + " of " + std::to_string(train) +
                                     " documents gave none; raise the share or set it to 0"};
  }
  for (Side& side : sides_) TRY(side.writer->Finish());
  report->train = {train, sides_[0].writer->tokens()};
  if (sides_.size() > 1) report->validation = {held, sides_[1].writer->tokens()};
  sides_.clear();  // they stay
  return {};
}

std::vector<std::pair<std::string, int64_t>> MostFirst(
    const std::map<std::string, int64_t>& counts) {
  std::vector<std::pair<std::string, int64_t>> list(counts.begin(), counts.end());
  std::stable_sort(list.begin(), list.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return list;
}

}  // namespace hadal::internal
