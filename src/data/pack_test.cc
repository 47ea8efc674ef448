#include "data/pack.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>

#include "base/rng.h"
#include "data/loader.h"
#include "data/shard.h"
#include "data/testing_folder.h"

namespace hadal {
namespace {

using testing::Folder;

const std::string kHash(64, 'a');

// Documents whose tokens name them: no two tokens of a set are equal.
std::vector<std::vector<TokenId>> Documents(int count, int longest, uint64_t seed,
                                            TokenId first = 0) {
  Rng rng(seed);
  std::vector<std::vector<TokenId>> documents(static_cast<size_t>(count));
  for (auto& d : documents) {
    d.resize(1 + rng.Below(static_cast<uint64_t>(longest)));
    for (TokenId& id : d) id = first++;
  }
  return documents;
}

int64_t WriteSet(const std::string& folder, const std::vector<std::vector<TokenId>>& documents,
                 int64_t vocab = 1 << 20, int64_t shard_tokens = 500,
                 const std::string& hash = kHash, bool masked = false) {
  auto writer = ShardWriter::Create({folder, hash, vocab, shard_tokens});
  EXPECT_TRUE(writer.ok()) << writer.error().message;
  for (const auto& d : documents) {
    const std::vector<uint8_t> loss(masked ? d.size() : 0);
    EXPECT_TRUE(writer->Add(d, loss).ok());
  }
  EXPECT_TRUE(writer->Finish().ok());
  return writer->tokens();
}

TEST(BestFit, KeepsEveryIndexAndFillsWell) {
  Rng rng(7);
  for (int round = 0; round < 50; ++round) {
    const auto capacity = static_cast<int32_t>(1 + rng.Below(300));
    std::vector<int32_t> lengths(rng.Below(400));
    for (int32_t& l : lengths)
      l = 1 + static_cast<int32_t>(rng.Below(static_cast<uint64_t>(capacity)));
    const auto bins = BestFit(lengths, capacity);
    std::vector<int> seen(lengths.size());
    int64_t half_empty = 0, total = 0;
    for (const auto& bin : bins) {
      int64_t sum = 0;
      for (const int32_t i : bin) {
        ++seen[static_cast<size_t>(i)];
        sum += lengths[static_cast<size_t>(i)];
      }
      EXPECT_LE(sum, capacity);
      EXPECT_TRUE(std::is_sorted(bin.begin(), bin.end()));
      half_empty += 2 * sum <= capacity;
      total += sum;
    }
    EXPECT_LE(half_empty, 1);  // two of them would have been joined
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), static_cast<int64_t>(seen.size()));
    // First-fit decreasing's bound, which best-fit decreasing shares: 11/9 optimal + 6/9.
    EXPECT_LE(static_cast<double>(bins.size()),
              11.0 / 9 * std::max(1.0, std::ceil(static_cast<double>(total) / capacity)) * 1.5 + 1);
  }
  EXPECT_EQ(BestFit(std::vector<int32_t>{5, 3, 7, 2, 3}, 10),
            (std::vector<std::vector<int32_t>>{{0, 3, 4}, {1, 2}}));
}

TEST(Permutation, EveryIndexOnceAndKeysDiffer) {
  for (const uint64_t n : {1u, 2u, 3u, 5u, 16u, 17u, 1000u, 4097u}) {
    const Permutation a(n, 1), b(n, 2);
    std::vector<uint64_t> seen;
    uint64_t same = 0, fixed = 0;
    for (uint64_t i = 0; i < n; ++i) {
      seen.push_back(a(i));
      same += a(i) == b(i);
      fixed += a(i) == i;
    }
    std::sort(seen.begin(), seen.end());
    for (uint64_t i = 0; i < n; ++i) ASSERT_EQ(seen[i], i);
    if (n >= 1000) {
      EXPECT_LT(same, 20u);
      EXPECT_LT(fixed, 20u);
    }
  }
}

TEST(Shard, RoundTripInBothWidthsWithMasks) {
  for (const int64_t vocab : {int64_t{60000}, int64_t{1} << 20}) {
    const Folder folder;
    const auto documents = Documents(300, 40, 3);
    std::vector<std::vector<uint8_t>> masks;
    Rng rng(4);
    auto writer = ShardWriter::Create({folder / "s", kHash, vocab, 700});
    ASSERT_TRUE(writer.ok());
    for (size_t i = 0; i < documents.size(); ++i) {
      std::vector<uint8_t> mask(documents[i].size(), 1);
      if (i % 3 == 1) mask.assign(mask.size(), 0);
      if (i % 3 == 2) {
        for (auto& m : mask) m = rng.Below(2) == 1;
      }
      ASSERT_TRUE(writer->Add(documents[i], i % 3 == 0 ? std::vector<uint8_t>{} : mask).ok());
      mask[0] = 0;
      masks.push_back(mask);
    }
    ASSERT_TRUE(writer->Finish().ok());
    EXPECT_GT(writer->shards(), 3);
    const auto set = ShardSet::Open(folder / "s", kHash);
    ASSERT_TRUE(set.ok()) << set.error().message;
    ASSERT_EQ(set->documents(), 300);
    EXPECT_EQ(set->tokens(), writer->tokens());
    EXPECT_EQ(set->targets(), writer->targets());
    for (int64_t i = 299; i >= 0; --i) {
      std::vector<int32_t> ids;
      std::vector<uint8_t> loss;
      ASSERT_TRUE(set->Read(i, &ids, &loss).ok());
      EXPECT_EQ(ids, documents[static_cast<size_t>(i)]);
      EXPECT_EQ(loss, masks[static_cast<size_t>(i)]);
      EXPECT_EQ(set->length(i), static_cast<int64_t>(ids.size()));
    }
    EXPECT_TRUE(set->Verify().ok());
  }
}

TEST(Shard, EveryFlippedBitAndEveryCutIsAnError) {
  const Folder folder;
  WriteSet(folder / "s", Documents(8, 6, 5), 1 << 20, 1 << 20);
  const std::string path = folder / "s/00000.shard";
  const std::string good = Folder::Read(path);
  const auto check = [&](const std::string& bytes) -> Status {
    folder.Write("bad.shard", bytes);
    const auto set = ShardSet::Open(folder / "bad.shard");
    if (!set.ok()) return set.error();
    return set->Verify();
  };
  ASSERT_TRUE(check(good).ok());
  for (size_t byte = 0; byte < good.size(); ++byte) {
    if (byte >= 120 && byte < 128) continue;  // reserved
    std::string bad = good;
    bad[byte] = static_cast<char>(bad[byte] ^ (1 << (byte % 8)));
    const Status status = check(bad);
    ASSERT_FALSE(status.ok()) << "byte " << byte;
    EXPECT_NE(status.error().message.find("bad.shard"), std::string::npos);
  }
  for (size_t size = 0; size < good.size(); size += 3)
    ASSERT_FALSE(check(good.substr(0, size)).ok());
  EXPECT_FALSE(check(good + std::string(8, '\0')).ok());
}

TEST(Shard, CutWhileOpenIsAnErrorNotACrash) {
  const Folder folder;
  WriteSet(folder / "s", Documents(3000, 60, 6), 1 << 20, 1 << 24);
  const auto set = ShardSet::Open(folder / "s");
  ASSERT_TRUE(set.ok());
  ASSERT_EQ(truncate((folder / "s/00000.shard").c_str(), 200), 0);
  std::vector<int32_t> ids;
  std::vector<uint8_t> loss;
  EXPECT_FALSE(set->Read(2500, &ids, &loss).ok());
}

TEST(Shard, OtherTokenizersAndBadIdsAreRefused) {
  const Folder folder;
  WriteSet(folder / "s", Documents(5, 5, 1));
  const auto other = ShardSet::Open(folder / "s", std::string(64, 'b'));
  ASSERT_FALSE(other.ok());
  EXPECT_NE(other.error().message.find("another tokenizer"), std::string::npos);
  EXPECT_FALSE(ShardWriter::Create({folder / "s", kHash, 100}).ok());  // holds shards
  auto writer = ShardWriter::Create({folder / "t", kHash, 100});
  ASSERT_TRUE(writer.ok());
  EXPECT_FALSE(writer->Add(std::vector<TokenId>{3, 100}).ok());
  EXPECT_FALSE(writer->Add(std::vector<TokenId>{-1}).ok());
  EXPECT_FALSE(writer->Finish().ok());  // nothing was added
  EXPECT_FALSE(ShardSet::Open(folder / "t").ok());
  EXPECT_FALSE(ShardSet::Open(folder / "absent").ok());
}

LoaderOptions Options(const Folder& folder, int64_t length = 64) {
  return {.sets = {{folder / "a", 1}}, .sequence_length = length, .seed = 9, .window_sequences = 8};
}

void CheckSequence(const PackedSequence& s, int64_t length) {
  ASSERT_EQ(s.tokens.size(), s.loss.size());
  ASSERT_LE(static_cast<int64_t>(s.tokens.size()), length);
  ASSERT_FALSE(s.document_first.empty());
  EXPECT_EQ(s.document_first[0], 0);
  for (const int32_t first : s.document_first) EXPECT_EQ(s.loss[static_cast<size_t>(first)], 0);
  for (size_t i = 1; i < s.tokens.size(); ++i) {  // inside a document tokens follow each other
    const bool starts = std::binary_search(s.document_first.begin(), s.document_first.end(),
                                           static_cast<int32_t>(i));
    if (!starts) {
      EXPECT_EQ(s.tokens[i], s.tokens[i - 1] + 1);
    }
  }
}

TEST(Loader, OnePassGivesEveryTokenOnce) {
  const Folder folder;
  const int64_t tokens = WriteSet(folder / "a", Documents(400, 150, 2));
  for (const bool shuffle : {false, true}) {
    auto options = Options(folder);
    options.once = true;
    options.shuffle = shuffle;
    auto loader = Loader::Open(options);
    ASSERT_TRUE(loader.ok()) << loader.error().message;
    std::vector<int> seen(static_cast<size_t>(tokens));
    int64_t sequences = 0;
    while (true) {
      const auto batch = loader->Next(5);
      ASSERT_TRUE(batch.ok());
      if (batch->empty()) break;
      for (const auto& s : *batch) {
        CheckSequence(s, 64);
        for (const int32_t t : s.tokens) ++seen[static_cast<size_t>(t)];
        ++sequences;
      }
    }
    // A piece of one token alone cannot be learnt from; only such may be left out.
    EXPECT_GE(std::count(seen.begin(), seen.end(), 1), tokens - 2);
    EXPECT_EQ(std::count_if(seen.begin(), seen.end(), [](int n) { return n > 1; }), 0);
    EXPECT_GT(static_cast<double>(tokens) / static_cast<double>(sequences * 64),
              0.9);  // small windows leave gaps
    EXPECT_TRUE(loader->Next(3)->empty());
  }
}

TEST(Loader, EpochsHaveTheirOwnOrder) {
  const Folder folder;
  const int64_t tokens = WriteSet(folder / "a", Documents(200, 30, 2));
  auto loader = Loader::Open(Options(folder));
  ASSERT_TRUE(loader.ok());
  std::vector<int32_t> stream;
  while (static_cast<int64_t>(stream.size()) < 3 * tokens) {
    const auto batch = loader->Next(1);
    ASSERT_TRUE(batch.ok());
    stream.insert(stream.end(), (*batch)[0].tokens.begin(), (*batch)[0].tokens.end());
  }
  EXPECT_GE(loader->epochs(0), 2.0);
  std::vector<int> seen(static_cast<size_t>(tokens));
  for (const int32_t t : stream) ++seen[static_cast<size_t>(t)];
  EXPECT_GE(*std::min_element(seen.begin(), seen.end()), 2);  // windows cross the ends of epochs
  EXPECT_LE(*std::max_element(seen.begin(), seen.end()), 4);
  EXPECT_FALSE(std::equal(stream.begin(), stream.begin() + tokens, stream.begin() + tokens));
}

TEST(Loader, ResumesExactlyFromAnyPoint) {
  const Folder folder;
  WriteSet(folder / "a", Documents(150, 90, 2));
  WriteSet(folder / "b", Documents(50, 200, 3, 1 << 19));
  auto options = Options(folder);
  options.sets.push_back({folder / "b", 0.5});
  auto loader = Loader::Open(options);
  ASSERT_TRUE(loader.ok());
  std::vector<PackedSequence> whole;
  std::vector<std::string> cursors;
  for (int i = 0; i < 60; ++i) {
    cursors.push_back(loader->cursor().ToJson());
    EXPECT_LT(cursors.back().size(), 400u);
    whole.push_back(std::move(loader->Next(1)->front()));
  }
  for (size_t i = 0; i < 60; i += 7) {
    const auto cursor = Cursor::FromJson(cursors[i]);
    ASSERT_TRUE(cursor.ok());
    EXPECT_EQ(cursor->sequences, static_cast<int64_t>(i));
    auto again = Loader::Open(options);
    ASSERT_TRUE(again->Seek(*cursor).ok());
    EXPECT_EQ(again->cursor(), *cursor);
    const auto rest = again->Next(60 - static_cast<int64_t>(i));
    for (size_t k = i; k < 60; ++k) {
      ASSERT_EQ((*rest)[k - i].tokens, whole[k].tokens) << i << " " << k;
      ASSERT_EQ((*rest)[k - i].loss, whole[k].loss);
      ASSERT_EQ((*rest)[k - i].document_first, whole[k].document_first);
    }
  }
}

TEST(Loader, MixesByWeight) {
  const Folder folder;
  WriteSet(folder / "a", Documents(150, 90, 2));
  WriteSet(folder / "b", Documents(50, 20, 3, 1 << 19));
  auto options = Options(folder);
  options.sets.push_back({folder / "b", 3});
  auto loader = Loader::Open(options);
  int64_t a = 0, b = 0;
  const auto batch = loader->Next(400);
  for (const auto& s : *batch) {
    for (const int32_t t : s.tokens) ++(t < (1 << 19) ? a : b);
  }
  EXPECT_NEAR(static_cast<double>(b) / static_cast<double>(a + b), 0.75, 0.01);
}

TEST(Loader, ClearErrors) {
  const Folder folder;
  WriteSet(folder / "a", Documents(10, 20, 2));
  WriteSet(folder / "masked", Documents(10, 20, 2), 1 << 20, 500, kHash, true);
  WriteSet(folder / "ones", Documents(10, 1, 2));
  WriteSet(folder / "other", Documents(10, 20, 2), 1 << 20, 500, std::string(64, 'c'));
  const auto message = [&](const LoaderOptions& options) {
    auto loader = Loader::Open(options);
    if (!loader.ok()) return loader.error().message;
    const auto batch = loader->Next(1);
    return batch.ok() ? std::string("no error") : batch.error().message;
  };
  const auto with = [&](const std::string& set, double weight = 1) {
    auto options = Options(folder);
    options.sets.push_back({folder / set, weight});
    return message(options);
  };
  EXPECT_NE(message({.sets = {}, .sequence_length = 8}).find("no data set"), std::string::npos);
  EXPECT_NE(message(Options(folder, 1)).find("sequence length 1"), std::string::npos);
  EXPECT_NE(with("masked").find("every token is masked"), std::string::npos);
  EXPECT_NE(with("ones").find("every token is masked"), std::string::npos);
  EXPECT_NE(with("other").find("another tokenizer"), std::string::npos);
  EXPECT_NE(with("a", -1).find("weight"), std::string::npos);
  EXPECT_NE(with("absent").find("absent"), std::string::npos);

  auto loader = Loader::Open(Options(folder));
  auto cursor = loader->cursor();
  cursor.sets[0].position = 10;
  EXPECT_FALSE(loader->Seek(cursor).ok());
  auto other = Options(folder);
  other.seed = 10;
  const Status status = loader->Seek(Loader::Open(other)->cursor());
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("another stream"), std::string::npos);
  for (const char* text : {"", "{}", "[1]", "{\"sets\":1}", "{\"sets\":[{}],\"sequence\":0}",
                           "{\"sets\":[3],\"sequence\":0,\"sequences\":0,\"stream\":1}",
                           "{\"sets\":[],\"sequence\":-1,\"sequences\":0,\"stream\":1}",
                           "{\"sets\":[],\"sequence\":0,\"sequences\":18446744073709551615,"
                           "\"stream\":1}"}) {
    EXPECT_FALSE(Cursor::FromJson(text).ok()) << text;
  }
}

}  // namespace
}  // namespace hadal
