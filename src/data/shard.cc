#include "data/shard.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>

#include "base/check.h"
#include "base/hash.h"
#include "data/internal_shard.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;
static_assert(std::endian::native == std::endian::little, "shards are read as they lie");

constexpr char kMagic[8] = {'H', 'A', 'D', 'A', 'L', 'S', 'H', 'D'};
constexpr uint64_t kHeaderBytes = 128, kSummed = 112;

struct Header {
  char magic[8];
  uint32_t version, id_bytes;
  uint64_t tokens, documents, runs, targets, vocab_size;
  uint8_t tokenizer[32];
  uint64_t block_bytes, checksums, file_bytes, sum, zero;
};
static_assert(sizeof(Header) == kHeaderBytes);

using internal::Blocks, internal::FromHex, internal::kShardBlock, internal::Padded, internal::ToHex;

Error Bad(const std::string& path, const std::string& what) {
  return internal::BadShard(path, what);
}

std::vector<std::string> ShardFiles(const std::string& folder) {
  return internal::FilesOf(folder, ".shard");
}

}  // namespace

namespace internal {

Error BadShard(const std::string& path, const std::string& what) {
  return {Code::kCorrupt, path + ": " + what};
}

bool FromHex(std::string_view hex, uint8_t* out) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
  };
  if (hex.size() != 64) return false;
  for (size_t i = 0; i < 32; ++i) {
    const int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return true;
}

std::string ToHex(const uint8_t* bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (size_t i = 0; i < 32; ++i) {
    hex += kDigits[bytes[i] >> 4];
    hex += kDigits[bytes[i] & 15];
  }
  return hex;
}

std::vector<std::string> FilesOf(const std::string& folder, std::string_view extension) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == extension) files.push_back(it->path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

Status CheckedBlocks::Check(const MappedFile& file, uint64_t from, uint64_t to) {
  const std::byte* bytes = file.bytes().data();
  for (uint64_t b = (from - begin_) / kShardBlock; b * kShardBlock + begin_ < to; ++b) {
    if (checked_[b]) continue;
    const uint64_t at = begin_ + b * kShardBlock;
    uint64_t sum;
    std::memcpy(&sum, bytes + end_ + b * 8, sizeof sum);
    if (XXH64(bytes + at, std::min(kShardBlock, end_ - at), 0) != sum) {
      return BadShard(file.path(), "block " + std::to_string(b) + " (bytes " + std::to_string(at) +
                                       " on) does not fit its checksum: the file is damaged, "
                                       "build it again");
    }
    checked_[b] = true;
  }
  if (file.damaged()) return BadShard(file.path(), "was cut off while it was read");
  return {};
}

}  // namespace internal

std::string TokenizerHash(const Tokenizer& tokenizer) {
  const TokenizerSpec spec = tokenizer.ToSpec();
  Sha256 hash;
  const auto add = [&](const std::vector<std::string>& list) {
    const uint64_t count = list.size();
    hash.Update(&count, sizeof count);
    for (const std::string& text : list) {
      const uint64_t size = text.size();
      hash.Update(&size, sizeof size);
      hash.Update(text.data(), text.size());
    }
  };
  add(spec.tokens);
  add(spec.merges);
  return hash.Hex();
}

Result<ShardWriter> ShardWriter::Create(const ShardOptions& options) {
  uint8_t ignored[32];
  CHECK(FromHex(options.tokenizer_hash, ignored));
  CHECK(options.vocab_size >= 1 && options.shard_tokens >= 1);
  std::error_code error;
  fs::create_directories(options.folder, error);
  if (error) {
    return Error{Code::kIo, "cannot make folder " + options.folder + ": " + error.message()};
  }
  if (!ShardFiles(options.folder).empty()) {
    return Error{Code::kInvalid,
                 options.folder + " holds shards already: choose another folder or remove it"};
  }
  if (access(options.folder.c_str(), W_OK) != 0) {
    return Error{Code::kIo, "cannot write into " + options.folder + ": " + std::strerror(errno)};
  }
  return ShardWriter(options);
}

Status ShardWriter::Add(std::span<const TokenId> ids, std::span<const uint8_t> loss) {
  CHECK(loss.empty() || loss.size() == ids.size());
  if (ids.empty()) return {};
  for (const TokenId id : ids) {
    if (id < 0 || id >= options_.vocab_size) {
      return Error{Code::kInvalid, "token id " + std::to_string(id) +
                                       " is outside the vocabulary of " +
                                       std::to_string(options_.vocab_size)};
    }
  }
  starts_.push_back(ids_.size());
  int64_t targets = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const bool flag = loss.empty() || loss[i] != 0;
    if (flag != loss_) runs_.push_back(ids_.size() + i);
    loss_ = flag;
    targets += flag && i > 0;
  }
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  shard_targets_ += targets;
  tokens_ += static_cast<int64_t>(ids.size());
  ++documents_;
  targets_ += targets;
  if (static_cast<int64_t>(ids_.size()) >= options_.shard_tokens) return WriteShard();
  return {};
}

Status ShardWriter::WriteShard() {
  starts_.push_back(ids_.size());
  const uint64_t id_bytes = options_.vocab_size <= 65536 ? 2 : 4;
  std::string body(Padded(ids_.size() * id_bytes), '\0');
  for (size_t i = 0; i < ids_.size(); ++i) {
    std::memcpy(body.data() + i * id_bytes, &ids_[i], id_bytes);  // little-endian: the low bytes
  }
  body.append(reinterpret_cast<const char*>(starts_.data()), starts_.size() * 8);
  body.append(reinterpret_cast<const char*>(runs_.data()), runs_.size() * 8);
  std::vector<uint64_t> sums;
  for (uint64_t at = 0; at < body.size(); at += kShardBlock) {
    sums.push_back(XXH64(body.data() + at, std::min(kShardBlock, body.size() - at), 0));
  }
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = 1;
  header.id_bytes = static_cast<uint32_t>(id_bytes);
  header.tokens = ids_.size();
  header.documents = starts_.size() - 1;
  header.runs = runs_.size();
  header.targets = static_cast<uint64_t>(shard_targets_);
  header.vocab_size = static_cast<uint64_t>(options_.vocab_size);
  FromHex(options_.tokenizer_hash, header.tokenizer);
  header.block_bytes = kShardBlock;
  header.checksums = kHeaderBytes + body.size();
  header.file_bytes = header.checksums + sums.size() * 8;
  std::string summed(reinterpret_cast<const char*>(&header), kSummed);
  summed.append(reinterpret_cast<const char*>(sums.data()), sums.size() * 8);
  header.sum = XXH64(summed.data(), summed.size(), 0);

  std::string name = std::to_string(shards_);
  name.insert(0, name.size() < 5 ? 5 - name.size() : 0, '0');
  auto file = TRY(AtomicFile::Create((fs::path(options_.folder) / (name + ".shard")).string()));
  TRY(file.Write(&header, sizeof header));
  TRY(file.Write(body));
  TRY(file.Write(sums.data(), sums.size() * 8));
  TRY(file.Commit());
  ++shards_;
  ids_.clear();
  starts_.clear();
  runs_.clear();
  loss_ = false;
  shard_targets_ = 0;
  return {};
}

Status ShardWriter::Finish() {
  if (!starts_.empty()) TRY(WriteShard());
  if (documents_ == 0) {
    return Error{Code::kInvalid, options_.folder +
                                     ": no document to write: all were empty or "
                                     "dropped"};
  }
  return {};
}

struct Shard::Impl {
  explicit Impl(MappedFile f) : file(std::move(f)) {}

  MappedFile file;
  Header header = {};
  std::string hash;
  mutable internal::CheckedBlocks blocks;

  const char* at(uint64_t offset) const {
    return reinterpret_cast<const char*>(file.bytes().data()) + offset;
  }
  const uint64_t* numbers(uint64_t offset) const {
    return reinterpret_cast<const uint64_t*>(at(offset));  // mapped pages, offsets of 8
  }
  uint64_t starts_offset() const { return kHeaderBytes + Padded(header.tokens * header.id_bytes); }
  uint64_t runs_offset() const { return starts_offset() + (header.documents + 1) * 8; }
  const uint64_t* starts() const { return numbers(starts_offset()); }

  Status CheckHeader();
  Status CheckStarts() const;
  Status CheckBlocks(uint64_t begin, uint64_t end) const { return blocks.Check(file, begin, end); }
  void ReadIds(uint64_t begin, uint64_t end, std::vector<int32_t>* ids) const;
};

Status Shard::Impl::CheckHeader() {
  const std::string& path = file.path();
  const uint64_t size = file.bytes().size();
  if (size < kHeaderBytes) {
    return Bad(path, std::to_string(size) + " bytes are too few for a token shard");
  }
  std::memcpy(&header, at(0), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) {
    return Bad(path, "is no token shard (hadal data build makes them)");
  }
  if (header.version != 1) {
    return Error{Code::kUnsupported,
                 path + ": shard version " + std::to_string(header.version) + ", known is 1"};
  }
  if (size != header.file_bytes) {
    return Bad(path, "is " + std::to_string(size) + " bytes, its header says " +
                         std::to_string(header.file_bytes) + ": cut off or damaged");
  }
  // Bounds that keep the sums below from overflowing.
  const bool plausible = (header.id_bytes == 2 || header.id_bytes == 4) && header.tokens <= size &&
                         header.documents >= 1 && header.documents <= header.tokens &&
                         header.runs <= header.tokens && header.vocab_size >= 1 &&
                         header.vocab_size <= (uint64_t{1} << 31) &&
                         header.block_bytes == kShardBlock && header.targets <= header.tokens;
  if (!plausible || header.checksums != runs_offset() + header.runs * 8 ||
      header.checksums + Blocks(header.checksums - kHeaderBytes) * 8 != size) {
    return Bad(path, "the header's sizes do not fit together");
  }
  std::string summed(at(0), kSummed);
  summed.append(at(header.checksums), size - header.checksums);
  if (XXH64(summed.data(), summed.size(), 0) != header.sum) {
    return Bad(path, "the header's checksum does not fit: the file is damaged");
  }
  hash = ToHex(header.tokenizer);
  blocks = {kHeaderBytes, header.checksums};
  return {};
}

Status Shard::Impl::CheckStarts() const {
  TRY(CheckBlocks(starts_offset(), header.checksums));
  const uint64_t* s = starts();
  bool good = s[0] == 0 && s[header.documents] == header.tokens;
  for (uint64_t i = 0; i < header.documents; ++i) good &= s[i] < s[i + 1];
  if (!good) return Bad(file.path(), "the document starts do not rise from 0 to the token count");
  const uint64_t* runs = numbers(runs_offset());
  for (uint64_t i = 0; i < header.runs; ++i) {
    good &= runs[i] < header.tokens && (i == 0 || runs[i - 1] < runs[i]);
  }
  if (!good) return Bad(file.path(), "the loss runs do not rise");
  return {};
}

void Shard::Impl::ReadIds(uint64_t begin, uint64_t end, std::vector<int32_t>* ids) const {
  const char* p = at(kHeaderBytes);
  const size_t old = ids->size();
  ids->resize(old + (end - begin));
  int32_t* out = ids->data() + old;
  if (header.id_bytes == 2) {
    const auto* in = reinterpret_cast<const uint16_t*>(p);
    for (uint64_t i = begin; i < end; ++i) *out++ = in[i];
  } else {
    std::memcpy(out, p + begin * 4, (end - begin) * 4);
  }
}

Shard::Shard(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Shard::Shard(Shard&&) noexcept = default;
Shard& Shard::operator=(Shard&&) noexcept = default;
Shard::~Shard() = default;

Result<Shard> Shard::Open(const std::string& path) {
  auto impl = std::make_unique<Impl>(TRY(MappedFile::Open(path)));
  TRY(impl->CheckHeader());
  TRY(impl->CheckStarts());
  return Shard(std::move(impl));
}

int64_t Shard::tokens() const { return static_cast<int64_t>(impl_->header.tokens); }
int64_t Shard::documents() const { return static_cast<int64_t>(impl_->header.documents); }
int64_t Shard::targets() const { return static_cast<int64_t>(impl_->header.targets); }
int64_t Shard::vocab_size() const { return static_cast<int64_t>(impl_->header.vocab_size); }
uint64_t Shard::checksum() const { return impl_->header.sum; }
const std::string& Shard::tokenizer_hash() const { return impl_->hash; }
const std::string& Shard::path() const { return impl_->file.path(); }

int64_t Shard::length(int64_t document) const {
  DCHECK(document >= 0 && document < documents());
  const uint64_t* s = impl_->starts() + document;
  return static_cast<int64_t>(s[1] - s[0]);
}

Status Shard::Read(int64_t document, std::vector<int32_t>* ids, std::vector<uint8_t>* loss) const {
  CHECK(document >= 0 && document < documents());
  const Header& h = impl_->header;
  const uint64_t begin = impl_->starts()[document], end = impl_->starts()[document + 1];
  // A file cut off while mapped reads as zeros: bounds were checked before, so check them again.
  if (begin >= end || end > h.tokens) return Bad(path(), "was cut off while it was read");
  TRY(impl_->CheckBlocks(kHeaderBytes + begin * h.id_bytes, kHeaderBytes + end * h.id_bytes));
  const size_t old = ids->size();
  impl_->ReadIds(begin, end, ids);
  for (size_t i = old; i < ids->size(); ++i) {
    const int32_t id = (*ids)[i];
    if (id < 0 || static_cast<uint64_t>(id) >= h.vocab_size) {
      return Bad(path(), "token id " + std::to_string(id) + " in document " +
                             std::to_string(document) + " is outside the vocabulary of " +
                             std::to_string(h.vocab_size));
    }
  }
  const size_t first = loss->size();
  const uint64_t* runs = impl_->numbers(impl_->runs_offset());
  const uint64_t* run = std::upper_bound(runs, runs + h.runs, begin);
  auto flag = static_cast<uint8_t>((run - runs) % 2);
  loss->resize(first + (end - begin));
  for (uint64_t i = begin; i < end;) {
    const uint64_t stop = run < runs + h.runs ? std::clamp(*run, i, end) : end;
    std::fill(loss->begin() + static_cast<ptrdiff_t>(first + (i - begin)),
              loss->begin() + static_cast<ptrdiff_t>(first + (stop - begin)), flag);
    i = stop;
    if (i < end) {
      flag ^= 1;
      ++run;
    }
  }
  (*loss)[first] = 0;
  if (impl_->file.damaged()) return Bad(path(), "was cut off while it was read");
  return {};
}

Status Shard::Verify() const {
  std::vector<int32_t> ids;
  std::vector<uint8_t> loss;
  int64_t targets = 0;
  for (int64_t d = 0; d < documents(); ++d) {
    ids.clear();
    loss.clear();
    TRY(Read(d, &ids, &loss));
    targets += std::count(loss.begin(), loss.end(), 1);
  }
  if (targets != this->targets()) {
    return Bad(path(), "holds " + std::to_string(targets) + " targets, its header says " +
                           std::to_string(this->targets()));
  }
  return impl_->CheckBlocks(kHeaderBytes, impl_->header.checksums);
}

Result<ShardSet> ShardSet::Open(const std::string& path, const std::string& tokenizer_hash) {
  std::error_code error;
  std::vector<std::string> files = {path};
  if (fs::is_directory(path, error)) {
    files = ShardFiles(path);
    if (files.empty()) {
      return Error{Code::kNotFound,
                   path +
                       " holds no .shard file (hadal data build makes them; name its train or "
                       "validation folder)"};
    }
  }
  ShardSet set;
  set.path_ = path;
  for (const std::string& file : files) {
    Shard shard = TRY(Shard::Open(file));
    const std::string& want =
        !tokenizer_hash.empty() || set.shards_.empty() ? tokenizer_hash : set.tokenizer_hash();
    if (!want.empty() && shard.tokenizer_hash() != want) {
      return Error{Code::kInvalid, file + " was made with another tokenizer (" +
                                       shard.tokenizer_hash().substr(0, 12) + ", wanted " +
                                       want.substr(0, 12) +
                                       "): build it again with this tokenizer"};
    }
    if (!set.shards_.empty() && shard.vocab_size() != set.vocab_size()) {
      return Bad(file, "has a vocabulary of " + std::to_string(shard.vocab_size()) +
                           ", the shards before it " + std::to_string(set.vocab_size()));
    }
    set.first_.push_back(set.first_.back() + shard.documents());
    set.tokens_ += shard.tokens();
    set.targets_ += shard.targets();
    set.shards_.push_back(std::move(shard));
  }
  return set;
}

std::pair<const Shard*, int64_t> ShardSet::Locate(int64_t document) const {
  CHECK(document >= 0 && document < documents());
  const auto after = std::upper_bound(first_.begin(), first_.end(), document);
  const auto index = static_cast<size_t>(after - first_.begin() - 1);
  return {&shards_[index], document - first_[index]};
}

int64_t ShardSet::length(int64_t document) const {
  const auto [shard, index] = Locate(document);
  return shard->length(index);
}

Status ShardSet::Read(int64_t document, std::vector<int32_t>* ids,
                      std::vector<uint8_t>* loss) const {
  const auto [shard, index] = Locate(document);
  return shard->Read(index, ids, loss);
}

Status ShardSet::Verify() const {
  for (const Shard& shard : shards_) TRY(shard.Verify());
  return {};
}

}  // namespace hadal
