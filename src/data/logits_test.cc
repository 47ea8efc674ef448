#include "data/logits.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>

#include "base/rng.h"
#include "data/loader.h"
#include "data/testing_folder.h"

namespace hadal {
namespace {

namespace fs = std::filesystem;
using testing::Folder;

const std::string kHash(64, 'a'), kTeacher(64, '7');
constexpr int64_t kK = 3;

LogitFacts Facts(int64_t vocab, int64_t piece = 16) { return {kHash, kTeacher, kK, vocab, piece}; }

// Documents of up to 40 tokens that no other document holds, some of them masked in parts.
void WriteShards(const std::string& folder, int64_t vocab, const std::string& hash = kHash) {
  Rng rng(3);
  auto writer = ShardWriter::Create({folder, hash, vocab, 500});
  ASSERT_TRUE(writer.ok());
  TokenId next = 0;
  for (int d = 0; d < 80; ++d) {
    std::vector<TokenId> ids(1 + rng.Below(40));
    std::vector<uint8_t> loss(ids.size());
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] = next++;
      loss[i] = d % 3 == 0 || rng.Below(2) == 0 ? 1 : 0;
    }
    ASSERT_TRUE(writer->Add(ids, loss).ok());
  }
  ASSERT_TRUE(writer->Finish().ok());
}

// The row of a target whose token is `id`: a list that no other target has.
struct Row {
  explicit Row(int32_t id, int64_t vocab) {
    for (int32_t j = 0; j < kK; ++j) {
      ids.push_back(static_cast<int32_t>((id * 5 + j) % vocab));
      log_probs.push_back(-0.001f * static_cast<float>(id) - 0.5f * static_cast<float>(j));
    }
  }
  std::vector<int32_t> ids;
  std::vector<float> log_probs;
};

std::string WriteLogits(const std::string& folder, const Shard& shard, const LogitFacts& facts) {
  fs::create_directories(folder);
  const std::string path = LogitPath(folder, shard);
  auto writer = LogitWriter::Create(path, shard, facts);
  EXPECT_TRUE(writer.ok()) << writer.error().message;
  int64_t rows = 0;
  for (int64_t d = 0; d < shard.documents(); ++d) {
    std::vector<int32_t> ids;
    std::vector<uint8_t> loss;
    EXPECT_TRUE(shard.Read(d, &ids, &loss).ok());
    for (size_t i = 0; i < ids.size(); ++i) {
      if (loss[i] == 0 || i % static_cast<size_t>(facts.piece_tokens) == 0) continue;
      const Row row(ids[i], facts.vocab_size);
      EXPECT_TRUE(writer->Add(row.ids, row.log_probs).ok());
      ++rows;
    }
  }
  EXPECT_EQ(writer->rows(), rows);
  EXPECT_TRUE(writer->Finish().ok());
  return path;
}

TEST(Logits, EveryTargetOfEveryPackingHasItsRow) {
  for (const int64_t vocab : {int64_t{60000}, int64_t{1} << 20}) {
    const Folder folder;
    WriteShards(folder / "s", vocab);
    const auto shards = ShardSet::Open(folder / "s");
    ASSERT_TRUE(shards.ok());
    ASSERT_GT(shards->shards().size(), 2u);
    for (const Shard& shard : shards->shards()) WriteLogits(folder / "l", shard, Facts(vocab));
    const auto set = LogitSet::Open(folder / "l");
    ASSERT_TRUE(set.ok()) << set.error().message;
    EXPECT_EQ(set->facts(), Facts(vocab));
    EXPECT_TRUE(set->Check(*shards, 16).ok());
    for (const uint64_t seed : {1, 2}) {
      auto loader = Loader::Open({.sets = {{folder / "s", 1}},
                                  .sequence_length = 16,
                                  .seed = seed,
                                  .once = true,
                                  .window_sequences = 4});
      ASSERT_TRUE(loader.ok());
      const auto sequences = loader->Next(1000);
      ASSERT_TRUE(sequences.ok());
      int64_t targets = 0;
      for (const PackedSequence& s : *sequences) {
        for (const int64_t k : {kK, int64_t{1}}) {
          std::vector<int32_t> ids, want_ids;
          std::vector<float> log_probs, want;
          const Status read = set->Read(s, k, &ids, &log_probs);
          ASSERT_TRUE(read.ok()) << read.error().message;
          for (size_t i = 0; i < s.tokens.size(); ++i) {
            if (s.loss[i] == 0) continue;
            const Row row(s.tokens[i], vocab);
            want_ids.insert(want_ids.end(), row.ids.begin(), row.ids.begin() + k);
            want.insert(want.end(), row.log_probs.begin(), row.log_probs.begin() + k);
            ++targets;
          }
          ASSERT_EQ(ids, want_ids);
          ASSERT_EQ(log_probs, want);
        }
      }
      EXPECT_GT(targets, 1000);
    }
  }
}

TEST(Logits, SaysWhatDoesNotFit) {
  const Folder folder;
  WriteShards(folder / "s", 60000);
  const auto shards = ShardSet::Open(folder / "s");
  std::vector<std::string> paths;
  for (const Shard& shard : shards->shards()) {
    paths.push_back(WriteLogits(folder / "l", shard, Facts(60000)));
  }
  const auto set = LogitSet::Open(folder / "l");
  ASSERT_TRUE(set.ok());
  const auto refused = [](const Status& status, const std::string& message) {
    ASSERT_FALSE(status.ok()) << message;
    EXPECT_NE(status.error().message.find(message), std::string::npos) << status.error().message;
  };
  refused(set->Check(*shards, 32), "same sequence_length");
  WriteShards(folder / "foreign", 60000, std::string(64, 'b'));
  refused(set->Check(*ShardSet::Open(folder / "foreign"), 16), "another tokenizer");
  WriteShards(folder / "other", 50000);
  refused(set->Check(*ShardSet::Open(folder / "other"), 16), "no teacher's logits of ");
  std::vector<int32_t> ids;
  std::vector<float> log_probs;
  PackedSequence s{{1, 2}, {0, 1}, {0}, {}};
  refused(set->Read(s, 1, &ids, &log_probs), "where it comes from");
  s.sources = {{1, 0, 0}};
  refused(set->Read(s, 1, &ids, &log_probs), "0000000000000001");
  s.sources = {{shards->shards()[0].checksum(), 0, 1 << 20}};
  refused(set->Read(s, 1, &ids, &log_probs), "document 0 has");
  s.sources[0].document = 1 << 20;
  refused(set->Read(s, 1, &ids, &log_probs), "has no document");

  // Pieces elsewhere are the same pieces when no document is cut.
  for (const Shard& shard : shards->shards())
    WriteLogits(folder / "whole", shard, Facts(60000, 64));
  const auto whole = LogitSet::Open(folder / "whole");
  EXPECT_TRUE(whole->Check(*shards, 50).ok());
  refused(whole->Check(*shards, 20), "same sequence_length");

  fs::remove(paths[1]);
  refused(LogitSet::Open(folder / "l")->Check(*shards, 16), "no teacher's logits of ");
  LogitFacts facts = Facts(60000);
  facts.teacher_hash = std::string(64, '8');
  WriteLogits(folder / "l", shards->shards()[1], facts);
  const auto mixed = LogitSet::Open(folder / "l");
  ASSERT_FALSE(mixed.ok());
  EXPECT_NE(mixed.error().message.find("another teacher"), std::string::npos);
  EXPECT_FALSE(LogitSet::Open(folder / "nowhere").ok());
}

TEST(Logits, EveryFlippedBitAndEveryCutIsAnError) {
  const Folder folder;
  auto writer = ShardWriter::Create({folder / "s", kHash, 500, 500});
  ASSERT_TRUE(writer->Add(std::vector<TokenId>{1, 2, 3, 4, 5}).ok());
  ASSERT_TRUE(writer->Add(std::vector<TokenId>{6, 7, 8}).ok());
  ASSERT_TRUE(writer->Finish().ok());
  const auto shards = ShardSet::Open(folder / "s");
  const std::string path = WriteLogits(folder / "l", shards->shards()[0], Facts(500));
  const std::string good = Folder::Read(path);
  const auto check = [&](const std::string& bytes) -> Status {
    folder.Write("bad.logits", bytes);
    const auto file = LogitShard::Open(folder / "bad.logits");
    if (!file.ok()) return file.error();
    return file->Verify();
  };
  const Status sound = check(good);
  ASSERT_TRUE(sound.ok()) << sound.error().message;
  for (size_t byte = 0; byte < good.size(); ++byte) {
    std::string bad = good;
    bad[byte] = static_cast<char>(bad[byte] ^ (1 << (byte % 8)));
    const Status status = check(bad);
    ASSERT_FALSE(status.ok()) << "byte " << byte;
    EXPECT_NE(status.error().message.find("bad.logits"), std::string::npos);
  }
  for (size_t size = 0; size < good.size(); size += 7)
    ASSERT_FALSE(check(good.substr(0, size)).ok());
  EXPECT_FALSE(check(good + std::string(8, '\0')).ok());
}

TEST(Logits, WrongRowsAreNamedThoughTheirChecksumsFit) {
  const Folder folder;
  auto writer = ShardWriter::Create({folder / "s", kHash, 500, 500});
  ASSERT_TRUE(writer->Add(std::vector<TokenId>{1, 2}).ok());
  ASSERT_TRUE(writer->Finish().ok());
  const auto shards = ShardSet::Open(folder / "s");
  const Shard& shard = shards->shards()[0];
  const auto verify = [&](std::vector<int32_t> ids, std::vector<float> log_probs) {
    auto w = LogitWriter::Create(folder / "x.logits", shard, Facts(500));
    EXPECT_TRUE(w.ok());
    EXPECT_TRUE(w->Add(ids, log_probs).ok());
    EXPECT_TRUE(w->Finish().ok());
    return LogitShard::Open(folder / "x.logits")->Verify();
  };
  EXPECT_TRUE(verify({1, 2, 3}, {-1, -2, -2}).ok());
  EXPECT_FALSE(verify({1, 2, 500}, {-1, -2, -2}).ok());
  EXPECT_FALSE(verify({1, 2, 1}, {-1, -2, -2}).ok());
  EXPECT_FALSE(verify({1, 2, 3}, {-2, -1, -2}).ok());
  EXPECT_FALSE(verify({1, 2, 3}, {0.5, -1, -2}).ok());
  auto w = LogitWriter::Create(folder / "nan.logits", shard, Facts(500));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(w->Add(std::vector<int32_t>{1, 2, 3}, std::vector<float>{-1, nan, -2}).ok());
}

TEST(Logits, CutWhileOpenIsAnErrorNotACrash) {
  const Folder folder;
  auto writer = ShardWriter::Create({folder / "s", kHash, 60000, 1 << 24});
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(writer->Add(std::vector<TokenId>(3000, 7)).ok());
  ASSERT_TRUE(writer->Finish().ok());
  const auto shards = ShardSet::Open(folder / "s");
  const std::string path = WriteLogits(folder / "l", shards->shards()[0], Facts(60000, 4096));
  EXPECT_TRUE(LogitShard::Open(path)->Verify().ok());
  const auto file = LogitShard::Open(path);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(truncate(path.c_str(), 300), 0);
  std::vector<int32_t> ids(30);
  std::vector<float> log_probs(30);
  EXPECT_FALSE(file->Read(39, 100, kK, ids, log_probs).ok());
}

}  // namespace
}  // namespace hadal
