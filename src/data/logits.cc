#include "data/logits.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <optional>

#include "base/check.h"
#include "data/internal_shard.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;
using internal::Blocks, internal::kShardBlock, internal::Padded;

constexpr char kMagic[8] = {'H', 'A', 'D', 'A', 'L', 'L', 'G', 'T'};
constexpr uint64_t kHeaderBytes = 192, kSummed = 160;
constexpr const char* kAgain = "run the stage of kind logits again";

struct Header {
  char magic[8];
  uint32_t version, id_bytes;
  uint64_t rows, documents, top_k, vocab_size, piece_tokens;
  double temperature;
  uint64_t shard;
  uint8_t tokenizer[32], teacher[32];
  uint64_t block_bytes, checksums, file_bytes, sum, zero[3];

  uint64_t row_bytes() const { return top_k * (id_bytes + 4); }
  uint64_t rows_offset() const { return kHeaderBytes + (documents + 1) * 8; }
};
static_assert(sizeof(Header) == kHeaderBytes);

Error Bad(const std::string& path, const std::string& what) {
  return internal::BadShard(path, what);
}

std::string Hex16(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

// Rows of a document: loss flags as a shard gives them, less the first of each piece.
int64_t CountRows(std::span<const uint8_t> loss, int64_t piece_tokens) {
  int64_t rows = 0;
  for (size_t i = 0; i < loss.size(); ++i) {
    rows += loss[i] != 0 && static_cast<int64_t>(i) % piece_tokens != 0;
  }
  return rows;
}

}  // namespace

std::string LogitPath(const std::string& folder, const Shard& shard) {
  return folder + "/" + Hex16(shard.checksum()) + ".logits";
}

struct LogitWriter::Impl {
  explicit Impl(AtomicFile f) : file(std::move(f)) {}

  AtomicFile file;
  LogitFacts facts;
  Header header = {};
  int64_t given = 0;
  std::string block;  // of the body, not full yet
  std::vector<uint64_t> sums;

  // The body goes out block by block, each with its sum.
  Status Body(const void* data, size_t size) {
    block.append(static_cast<const char*>(data), size);
    while (block.size() >= kShardBlock) TRY(Flush(kShardBlock));
    return {};
  }
  Status Flush(size_t size) {
    sums.push_back(XXH64(block.data(), size, 0));
    TRY(file.Write(block.data(), size));
    block.erase(0, size);
    return {};
  }
};

LogitWriter::LogitWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LogitWriter::LogitWriter(LogitWriter&&) noexcept = default;
LogitWriter::~LogitWriter() = default;
int64_t LogitWriter::rows() const { return static_cast<int64_t>(impl_->header.rows); }

Result<LogitWriter> LogitWriter::Create(const std::string& path, const Shard& shard,
                                        const LogitFacts& facts) {
  CHECK(facts.top_k >= 1 && facts.top_k <= facts.vocab_size && facts.piece_tokens >= 2);
  CHECK(facts.tokenizer_hash == shard.tokenizer_hash());
  std::vector<uint64_t> starts = {0};
  std::vector<int32_t> ids;
  std::vector<uint8_t> loss;
  for (int64_t d = 0; d < shard.documents(); ++d) {
    ids.clear();
    loss.clear();
    TRY(shard.Read(d, &ids, &loss));
    starts.push_back(starts.back() + static_cast<uint64_t>(CountRows(loss, facts.piece_tokens)));
  }
  auto impl = std::make_unique<Impl>(TRY(AtomicFile::Create(path)));
  impl->facts = facts;
  Header& h = impl->header;
  std::memcpy(h.magic, kMagic, sizeof kMagic);
  h.version = 1;
  h.id_bytes = facts.vocab_size <= 65536 ? 2 : 4;
  h.rows = starts.back();
  h.documents = starts.size() - 1;
  h.top_k = static_cast<uint64_t>(facts.top_k);
  h.vocab_size = static_cast<uint64_t>(facts.vocab_size);
  h.piece_tokens = static_cast<uint64_t>(facts.piece_tokens);
  h.temperature = facts.temperature;
  h.shard = shard.checksum();
  CHECK(internal::FromHex(facts.tokenizer_hash, h.tokenizer));
  CHECK(internal::FromHex(facts.teacher_hash, h.teacher));
  h.block_bytes = kShardBlock;
  h.checksums = h.rows_offset() + Padded(h.rows * h.row_bytes());
  h.file_bytes = h.checksums + (Blocks(h.checksums - kHeaderBytes) + 1) * 8;
  h.sum = XXH64(&h, kSummed, 0);
  TRY(impl->file.Write(&h, sizeof h));
  TRY(impl->Body(starts.data(), starts.size() * 8));
  return LogitWriter(std::move(impl));
}

Status LogitWriter::Add(std::span<const int32_t> ids, std::span<const float> log_probs) {
  Impl& m = *impl_;
  CHECK(static_cast<int64_t>(ids.size()) == m.facts.top_k && ids.size() == log_probs.size());
  CHECK(m.given < rows());
  for (const float p : log_probs) {
    if (std::isfinite(p)) continue;
    return Error{Code::kNumeric, "the teacher's logits hold NaN or Inf (row " +
                                     std::to_string(m.given) + "): its weights are damaged"};
  }
  for (const int32_t id : ids) {
    TRY(m.Body(&id, m.header.id_bytes));  // little-endian: the low bytes
  }
  ++m.given;
  return m.Body(log_probs.data(), log_probs.size_bytes());
}

Status LogitWriter::Finish() {
  Impl& m = *impl_;
  CHECK(m.given == rows());
  const uint64_t size = m.header.rows * m.header.row_bytes();
  const std::string padding(Padded(size) - size, '\0');
  TRY(m.Body(padding.data(), padding.size()));
  if (!m.block.empty()) TRY(m.Flush(m.block.size()));
  std::string summed(reinterpret_cast<const char*>(&m.header), kHeaderBytes);
  summed.append(reinterpret_cast<const char*>(m.sums.data()), m.sums.size() * 8);
  m.sums.push_back(XXH64(summed.data(), summed.size(), 0));
  TRY(m.file.Write(m.sums.data(), m.sums.size() * 8));
  return m.file.Commit();
}

struct LogitShard::Impl {
  explicit Impl(MappedFile f) : file(std::move(f)) {}

  MappedFile file;
  Header header = {};
  LogitFacts facts;
  mutable internal::CheckedBlocks blocks;
  mutable std::vector<int32_t> sorted;  // ids of the row that is read

  const char* at(uint64_t offset) const {
    return reinterpret_cast<const char*>(file.bytes().data()) + offset;
  }
  const uint64_t* starts() const {
    return reinterpret_cast<const uint64_t*>(at(kHeaderBytes));  // mapped pages, offsets of 8
  }

  Status CheckHeader();
  Status CheckStarts() const;
  Status ReadRow(uint64_t row, int32_t* ids, float* log_probs) const;
};

Status LogitShard::Impl::CheckHeader() {
  const std::string& path = file.path();
  const uint64_t size = file.bytes().size();
  if (size < kHeaderBytes) {
    return Bad(path, std::to_string(size) + " bytes are too few for a teacher's logits");
  }
  std::memcpy(&header, at(0), sizeof header);
  const Header& h = header;
  if (std::memcmp(h.magic, kMagic, sizeof kMagic) != 0) {
    return Bad(path, "holds no teacher's logits (a recipe's stage of kind logits makes them)");
  }
  if (h.version != 1) {
    return Error{Code::kUnsupported, path + ": version " + std::to_string(h.version) +
                                         " of a teacher's logits, known is 1"};
  }
  if (XXH64(at(0), kSummed, 0) != h.sum) {
    return Bad(path, "the header's checksum does not fit: the file is damaged");
  }
  if (size != h.file_bytes) {
    return Bad(path, "is " + std::to_string(size) + " bytes, its header says " +
                         std::to_string(h.file_bytes) + ": cut off or damaged");
  }
  // Bounds that keep the sums below from overflowing.
  const bool plausible = (h.id_bytes == 2 || h.id_bytes == 4) && h.rows <= size &&
                         h.documents >= 1 && h.documents <= size / 8 && h.top_k >= 1 &&
                         h.top_k <= h.vocab_size && h.vocab_size <= (uint64_t{1} << 31) &&
                         (h.id_bytes == 4 || h.vocab_size <= 65536) && h.piece_tokens >= 2 &&
                         h.piece_tokens <= (uint64_t{1} << 40) && h.block_bytes == kShardBlock &&
                         std::isfinite(h.temperature) && h.temperature > 0;
  const bool fits = plausible && (h.rows == 0 || h.top_k <= size / h.rows) &&
                    h.checksums == h.rows_offset() + Padded(h.rows * h.row_bytes()) &&
                    h.checksums + (Blocks(h.checksums - kHeaderBytes) + 1) * 8 == size;
  if (!fits) return Bad(path, "the header's sizes do not fit together");
  std::string summed(at(0), kHeaderBytes);
  summed.append(at(h.checksums), size - 8 - h.checksums);
  uint64_t last;
  std::memcpy(&last, at(size - 8), sizeof last);
  if (XXH64(summed.data(), summed.size(), 0) != last) {
    return Bad(path, "the last checksum does not fit: the file is damaged");
  }
  facts = {internal::ToHex(h.tokenizer),         internal::ToHex(h.teacher),
           static_cast<int64_t>(h.top_k),        static_cast<int64_t>(h.vocab_size),
           static_cast<int64_t>(h.piece_tokens), h.temperature};
  blocks = {kHeaderBytes, h.checksums};
  return {};
}

Status LogitShard::Impl::CheckStarts() const {
  TRY(blocks.Check(file, kHeaderBytes, header.rows_offset()));
  const uint64_t* s = starts();
  bool good = s[0] == 0 && s[header.documents] == header.rows;
  for (uint64_t i = 0; i < header.documents; ++i) good &= s[i] <= s[i + 1];
  if (good) return {};
  return Bad(file.path(), "the documents' rows do not rise from 0 to their number");
}

// The whole row; its block was checked.
Status LogitShard::Impl::ReadRow(uint64_t row, int32_t* ids, float* log_probs) const {
  const Header& h = header;
  const char* p = at(h.rows_offset() + row * h.row_bytes());
  std::memcpy(log_probs, p + h.top_k * h.id_bytes, h.top_k * 4);
  bool good = true;
  for (uint64_t j = 0; j < h.top_k; ++j) {
    uint32_t id = 0;
    std::memcpy(&id, p + j * h.id_bytes, h.id_bytes);
    good &= id < h.vocab_size;
    ids[j] = static_cast<int32_t>(id);
    good &= std::isfinite(log_probs[j]) && log_probs[j] <= (j == 0 ? 0 : log_probs[j - 1]);
  }
  sorted.assign(ids, ids + h.top_k);
  std::sort(sorted.begin(), sorted.end());
  good &= std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end();
  if (good) return {};
  return Bad(file.path(), "row " + std::to_string(row) +
                              " is no list of distinct tokens with falling log-probabilities");
}

LogitShard::LogitShard(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LogitShard::LogitShard(LogitShard&&) noexcept = default;
LogitShard& LogitShard::operator=(LogitShard&&) noexcept = default;
LogitShard::~LogitShard() = default;
const LogitFacts& LogitShard::facts() const { return impl_->facts; }
uint64_t LogitShard::shard() const { return impl_->header.shard; }
int64_t LogitShard::rows() const { return static_cast<int64_t>(impl_->header.rows); }
int64_t LogitShard::documents() const { return static_cast<int64_t>(impl_->header.documents); }
const std::string& LogitShard::path() const { return impl_->file.path(); }

Result<LogitShard> LogitShard::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>(TRY(MappedFile::Open(path)));
  TRY(impl->CheckHeader());
  TRY(impl->CheckStarts());
  return LogitShard(std::move(impl));
}

Status LogitShard::Read(int64_t document, int64_t first, int64_t k, std::span<int32_t> ids,
                        std::span<float> log_probs) const {
  const Impl& m = *impl_;
  const Header& h = m.header;
  CHECK(k >= 1 && k <= m.facts.top_k && ids.size() == log_probs.size());
  const int64_t count = static_cast<int64_t>(ids.size()) / k;
  if (document < 0 || document >= documents() || first < 0) {
    return Bad(path(), "has no document " + std::to_string(document));
  }
  // A file cut off while mapped reads as zeros: bounds were checked before, so check them again.
  const uint64_t begin = m.starts()[document], end = m.starts()[document + 1];
  if (begin > end || end > h.rows || static_cast<uint64_t>(first + count) > end - begin) {
    return Bad(path(), "document " + std::to_string(document) + " has " +
                           std::to_string(end - begin) + " rows, wanted are " +
                           std::to_string(first) + " to " + std::to_string(first + count) + ": " +
                           kAgain);
  }
  if (count == 0) return {};
  const uint64_t from = begin + static_cast<uint64_t>(first);
  const uint64_t at = h.rows_offset() + from * h.row_bytes();
  TRY(m.blocks.Check(m.file, at, at + static_cast<uint64_t>(count) * h.row_bytes()));
  std::vector<int32_t> row_ids(h.top_k);
  std::vector<float> row(h.top_k);
  for (int64_t r = 0; r < count; ++r) {
    TRY(m.ReadRow(from + static_cast<uint64_t>(r), row_ids.data(), row.data()));
    std::copy_n(row_ids.begin(), k, ids.begin() + r * k);
    std::copy_n(row.begin(), k, log_probs.begin() + r * k);
  }
  if (m.file.damaged()) return Bad(path(), "was cut off while it was read");
  return {};
}

Status LogitShard::Verify() const {
  const auto k = static_cast<size_t>(facts().top_k);
  for (int64_t d = 0; d < documents(); ++d) {
    const uint64_t count = impl_->starts()[d + 1] - impl_->starts()[d];
    if (count > impl_->header.rows) return Bad(path(), "was cut off while it was read");
    std::vector<int32_t> ids(count * k);
    std::vector<float> log_probs(count * k);
    TRY(Read(d, 0, facts().top_k, ids, log_probs));
  }
  return impl_->blocks.Check(impl_->file, kHeaderBytes, impl_->header.checksums);
}

Result<LogitSet> LogitSet::Open(const std::string& folder) {
  LogitSet set;
  set.folder_ = folder;
  for (const std::string& path : internal::FilesOf(folder, ".logits")) {
    LogitShard file = TRY(LogitShard::Open(path));
    if (set.files_.empty()) set.facts_ = file.facts();
    if (!(file.facts() == set.facts_)) {
      return Error{Code::kInvalid, path +
                                       ": was made with another teacher, tokenizer or other "
                                       "options than the files before it: " +
                                       kAgain};
    }
    set.files_.emplace(file.shard(), std::move(file));
  }
  if (set.files_.empty()) {
    return Error{Code::kNotFound,
                 folder + ": holds no .logits file (a recipe's stage of kind logits makes them)"};
  }
  return set;
}

Status LogitSet::Check(const ShardSet& set, int64_t sequence_length) const {
  if (set.tokenizer_hash() != facts_.tokenizer_hash) {
    return Error{Code::kInvalid, folder_ + ": the teacher's logits are of another tokenizer (" +
                                     facts_.tokenizer_hash.substr(0, 12) + ") than " + set.path() +
                                     " (" + set.tokenizer_hash().substr(0, 12) + "): " + kAgain};
  }
  for (const Shard& shard : set.shards()) {
    const auto found = files_.find(shard.checksum());
    if (found == files_.end()) {
      return Error{Code::kNotFound, folder_ + ": no teacher's logits of " + shard.path() +
                                        " (wanted " + Hex16(shard.checksum()) +
                                        ".logits): the data is another or has changed; " + kAgain};
    }
    if (found->second.documents() != shard.documents()) {
      return Bad(found->second.path(), "has " + std::to_string(found->second.documents()) +
                                           " documents, " + shard.path() + " " +
                                           std::to_string(shard.documents()) + ": " + kAgain);
    }
    if (sequence_length == facts_.piece_tokens) continue;
    const int64_t whole = std::min(sequence_length, facts_.piece_tokens);
    for (int64_t d = 0; d < shard.documents(); ++d) {
      if (shard.length(d) <= whole) continue;
      return Error{Code::kInvalid,
                   folder_ + ": the teacher saw pieces of " + std::to_string(facts_.piece_tokens) +
                       " tokens, this stage cuts at " + std::to_string(sequence_length) +
                       " and document " + std::to_string(d) + " of " + shard.path() + " has " +
                       std::to_string(shard.length(d)) +
                       ": give both stages the same sequence_length"};
    }
  }
  return {};
}

Status LogitSet::Read(const PackedSequence& s, int64_t k, std::vector<int32_t>* ids,
                      std::vector<float>* log_probs) const {
  if (s.sources.size() != s.document_first.size()) {
    return Error{Code::kInvalid, folder_ + ": the sequence does not say where it comes from"};
  }
  for (size_t d = 0; d < s.sources.size(); ++d) {
    const PieceSource& source = s.sources[d];
    const auto found = files_.find(source.shard);
    if (found == files_.end()) {
      return Error{Code::kInvalid, folder_ + ": no teacher's logits of the token shard " +
                                       Hex16(source.shard) + ": " + kAgain};
    }
    const auto begin = s.loss.begin() + s.document_first[d];
    const auto end =
        d + 1 < s.sources.size() ? s.loss.begin() + s.document_first[d + 1] : s.loss.end();
    const auto count = static_cast<size_t>(std::count(begin, end, 1) * k), old = ids->size();
    ids->resize(old + count);
    log_probs->resize(old + count);
    TRY(found->second.Read(source.document, source.first_target, k, std::span(*ids).subspan(old),
                           std::span(*log_probs).subspan(old)));
  }
  return {};
}

}  // namespace hadal
