#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>

#include "base/check.h"
#include "base/hash.h"
#include "formats/weight_file.h"
#include "train/teacher.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;

// What decides a teacher's answers, whatever the order of its file's tensors.
std::string TeacherHash(const WeightFile& file, const ModelConfig& config) {
  Sha256 hash;
  const auto add = [&](std::string_view text) {
    const uint64_t size = text.size();
    hash.Update(&size, sizeof size);
    hash.Update(text.data(), text.size());
  };
  add(config.ToJson("float32"));
  std::vector<const TensorInfo*> tensors;
  for (const TensorInfo& t : file.tensors()) tensors.push_back(&t);
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorInfo* a, const TensorInfo* b) { return a->name < b->name; });
  for (const TensorInfo* t : tensors) {
    add(t->name);
    add(Info(t->type).name);
    add(fmt::format("{}", fmt::join(t->shape, ",")));
    add({reinterpret_cast<const char*>(t->bytes.data()), t->bytes.size()});
    file.Drop(*t);
  }
  return hash.Hex();
}

class Store {
 public:
  Store(const Exec& exec, World& world, const StoreLogitsOptions& options)
      : exec_(exec), world_(world), o_(options) {}
  Result<StoredLogits> Go();

 private:
  Status OpenSets();
  Status Clean() const;
  bool Fits(const Shard& shard) const;
  Status Write(const Shard& shard);
  Status Flush(LogitWriter& writer);

  const Exec& exec_;
  World& world_;
  const StoreLogitsOptions& o_;
  LogitFacts facts_;
  std::vector<ShardSet> sets_;
  std::vector<const Shard*> shards_;  // no two of the same contents
  std::unique_ptr<Teacher> teacher_;
  std::vector<int32_t> tokens_, first_;  // of the pass that is being filled
  std::vector<float> weights_;
  int64_t done_ = 0, total_ = 0;
};

Status Store::OpenSets() {
  std::set<uint64_t> seen;
  for (const std::string& path : o_.sets) {
    sets_.push_back(
        TRY(ShardSet::Open(path, sets_.empty() ? std::string() : sets_[0].tokenizer_hash())));
    if (sets_.back().vocab_size() > facts_.vocab_size) {
      return Error{
          Code::kInvalid,
          fmt::format("{}: has ids up to {}, the teacher a vocabulary of {}: its tokenizer "
                      "is another",
                      path, sets_.back().vocab_size(), facts_.vocab_size)};
    }
  }
  for (const ShardSet& set : sets_) {
    for (const Shard& shard : set.shards()) {
      if (seen.insert(shard.checksum()).second) shards_.push_back(&shard);
    }
  }
  facts_.tokenizer_hash = sets_[0].tokenizer_hash();
  return {};
}

// Files of other data, and what a killed run left half-written.
Status Store::Clean() const {
  std::error_code ec;
  fs::create_directories(o_.folder, ec);
  if (ec) return Error{Code::kIo, o_.folder + ": cannot be made: " + ec.message()};
  std::set<std::string> wanted;
  for (const Shard* shard : shards_) {
    wanted.insert(fs::path(LogitPath(o_.folder, *shard)).filename().string());
  }
  std::vector<fs::path> others;
  for (fs::directory_iterator it(o_.folder, ec), end; !ec && it != end; it.increment(ec)) {
    const std::string name = it->path().filename().string();
    if (name.find(".logits") == std::string::npos) continue;
    if (!wanted.contains(name)) others.push_back(it->path());
  }
  for (const fs::path& path : others) fs::remove(path, ec);
  return {};
}

bool Store::Fits(const Shard& shard) const {
  const auto file = LogitShard::Open(LogitPath(o_.folder, shard));
  return file.ok() && file->facts() == facts_ && file->shard() == shard.checksum() &&
         file->documents() == shard.documents() && file->Verify().ok();
}

// Runs the teacher over the pieces gathered.
Status Store::Flush(LogitWriter& writer) {
  if (tokens_.empty()) return {};
  const TeacherTopK rows = TRY(teacher_->TopK({}, {tokens_, first_, weights_}));
  for (size_t t = 1; t < tokens_.size(); ++t) {
    if (weights_[t] == 0) continue;
    const auto row = static_cast<int64_t>(t) - 1;
    const auto k = static_cast<size_t>(facts_.top_k);
    TRY(writer.Add({rows.ids.row(row), k}, {rows.log_probs.row(row), k}));
    ++done_;
  }
  tokens_.clear();
  first_.clear();
  weights_.clear();
  if (!o_.progress || o_.progress(done_, total_)) return {};
  return Error{Code::kCancelled, "interrupted; the same command goes on where this one stopped"};
}

Status Store::Write(const Shard& shard) {
  if (teacher_ == nullptr) {
    TeacherOptions live;
    live.model = o_.model;
    live.top_k = facts_.top_k;
    live.temperature = o_.temperature;
    teacher_ = TRY(Teacher::Open(exec_, live, facts_.vocab_size));
  }
  LogitWriter writer = TRY(LogitWriter::Create(LogitPath(o_.folder, shard), shard, facts_));
  std::vector<int32_t> ids;
  std::vector<uint8_t> loss;
  for (int64_t d = 0; d < shard.documents(); ++d) {
    ids.clear();
    loss.clear();
    TRY(shard.Read(d, &ids, &loss));
    for (size_t i = 0; i < ids.size(); i += static_cast<size_t>(o_.sequence_length)) {
      const size_t end = std::min(i + static_cast<size_t>(o_.sequence_length), ids.size());
      if (static_cast<int64_t>(tokens_.size() + end - i) > o_.micro_tokens) TRY(Flush(writer));
      first_.push_back(static_cast<int32_t>(tokens_.size()));
      for (size_t t = i; t < end; ++t) {
        tokens_.push_back(ids[t]);
        weights_.push_back(t > i && loss[t] != 0 ? 1.0f : 0.0f);
      }
    }
  }
  TRY(Flush(writer));
  return writer.Finish();
}

Result<StoredLogits> Store::Go() {
  CHECK(o_.top_k >= 1 && o_.sequence_length >= 2 && o_.micro_tokens >= o_.sequence_length);
  CHECK(!o_.sets.empty());
  {
    const WeightFile file = TRY(WeightFile::Open(o_.model));
    const ModelConfig config = TRY(ModelConfig::FromFile(file));
    facts_.vocab_size = config.vocab;
    facts_.top_k = std::min(o_.top_k, config.vocab);
    facts_.piece_tokens = o_.sequence_length;
    facts_.temperature = o_.temperature;
    TRY(OpenSets());
    facts_.teacher_hash = TeacherHash(file, config);
    TRY(file.CheckIntact());
  }
  if (world_.rank() == 0) TRY(Clean());
  world_.Barrier();
  std::vector<const Shard*> mine;
  int64_t kept = 0;
  for (size_t i = 0; i < shards_.size(); ++i) {
    if (static_cast<int>(i % static_cast<size_t>(world_.size())) != world_.rank()) continue;
    if (Fits(*shards_[i])) {
      ++kept;
      continue;
    }
    mine.push_back(shards_[i]);
    total_ += shards_[i]->targets();
  }
  for (const Shard* shard : mine) TRY(Write(*shard));
  world_.Barrier();
  StoredLogits all;
  all.teacher_hash = facts_.teacher_hash;
  all.shards = static_cast<int64_t>(shards_.size());
  all.kept = kept;
  world_.AllReduce(std::span<int64_t>(&all.kept, 1));
  std::error_code ec;
  for (const Shard* shard : shards_) {
    const std::string path = LogitPath(o_.folder, *shard);
    all.rows += TRY(LogitShard::Open(path)).rows();
    all.bytes += static_cast<int64_t>(fs::file_size(path, ec));
  }
  return all;
}

}  // namespace

Result<StoredLogits> StoreLogits(const Exec& exec, World& world,
                                 const StoreLogitsOptions& options) {
  return Store(exec, world, options).Go();
}

}  // namespace hadal
