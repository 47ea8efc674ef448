#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "formats/test_files.h"
#include "formats/weight_file.h"
#include "formats/writer.h"
#include "tensor/quant.h"

namespace hadal {
namespace {

using test::GgufBytes;
using test::ReadAll;
using test::TempFolder;

std::string TwoTensorFile(uint32_t version = 3) {
  GgufBytes g;
  g.Header(2, 3, version)
      .KeyString("general.architecture", "llama")
      .Key("llama.block_count", 4, uint32_t{7})
      .Key("llama.rope.freq_base", 6, 1e4f);
  g.Tensor("a", {2, 3}, test::kF32, 0).Tensor("b", {32}, test::kQ8_0, 32).Align();
  for (int i = 0; i < 6; ++i) g.Number(static_cast<float>(i));
  g.Align().Number(uint16_t{0x3c00});
  for (int i = 0; i < 32; ++i) g.Number(static_cast<int8_t>(i - 16));
  return g.text();
}

TEST(GgufRead, ShapesComeOutermostFirstAndBytesInPlace) {
  for (const uint32_t version : {2u, 3u}) {
    const TempFolder folder;
    const auto file = WeightFile::Open(folder.Write("m.gguf", TwoTensorFile(version)));
    ASSERT_TRUE(file.ok()) << file.error().message;
    EXPECT_EQ(file->kind(), WeightFile::Kind::kGguf);
    ASSERT_EQ(file->tensors().size(), 2u);
    const TensorInfo* a = file->Find("a");
    ASSERT_NE(a, nullptr);
    EXPECT_EQ(a->shape, (std::vector<int64_t>{3, 2}));
    EXPECT_EQ(a->rows(), 3);
    EXPECT_EQ(a->cols(), 2);
    EXPECT_EQ(a->elements(), 6);
    float values[6];
    std::memcpy(values, a->bytes.data(), sizeof values);
    EXPECT_EQ(values[5], 5.0f);
    const TensorInfo* b = file->Find("b");
    ASSERT_NE(b, nullptr);
    EXPECT_EQ(b->type, DType::kQ8_0);
    ASSERT_EQ(b->bytes.size(), 34u);
    float decoded[32];
    Dequantize(b->type, b->bytes.data(), decoded, 32);
    EXPECT_EQ(decoded[0], -16.0f);
    EXPECT_EQ(file->Find("c"), nullptr);
    EXPECT_EQ(file->Find(""), nullptr);
    EXPECT_TRUE(file->CheckIntact().ok());
  }
}

TEST(GgufRead, DropLeavesTheBytesReadable) {
  const TempFolder folder;
  const auto file = WeightFile::Open(folder.Write("m.gguf", TwoTensorFile()));
  ASSERT_TRUE(file.ok());
  const TensorInfo& a = *file->Find("a");
  const std::vector<std::byte> before(a.bytes.begin(), a.bytes.end());
  file->Drop(a);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), a.bytes.begin()));
  TensorInfo stranger;
  file->Drop(stranger);
}

TEST(GgufRead, OpensWithoutTheUsualEnding) {
  const TempFolder folder;
  EXPECT_TRUE(WeightFile::Open(folder.Write("blob", TwoTensorFile())).ok());
}

TEST(GgufRead, HasNoTextsBeside) {
  const TempFolder folder;
  folder.Write("config.json", "{}");
  const auto file = WeightFile::Open(folder.Write("m.gguf", TwoTensorFile()));
  ASSERT_TRUE(file.ok());
  const auto text = file->ReadText("config.json");
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().code, Code::kInvalid);
}

MetaValue Scalar(uint32_t type, decltype(MetaValue::value) value) {
  return {type, 0, std::move(value)};
}
MetaValue Array(uint32_t type, MetaArray value) { return {9, type, std::move(value)}; }

Metadata EveryKindOfValue() {
  Metadata m;
  m["general.architecture"] = Scalar(8, std::string("llama"));
  m["k.u8"] = Scalar(0, uint64_t{255});
  m["k.i8"] = Scalar(1, int64_t{-128});
  m["k.u16"] = Scalar(2, uint64_t{65535});
  m["k.i16"] = Scalar(3, int64_t{-32768});
  m["k.u32"] = Scalar(4, uint64_t{0xffffffff});
  m["k.i32"] = Scalar(5, int64_t{-2147483647 - 1});
  m["k.f32"] = Scalar(6, double{0.1f});
  m["k.bool"] = Scalar(7, true);
  m["k.text"] = Scalar(8, std::string("not \xff utf-8 \0 here", 19));
  m["k.u64"] = Scalar(10, std::numeric_limits<uint64_t>::max());
  m["k.i64"] = Scalar(11, std::numeric_limits<int64_t>::min());
  m["k.f64"] = Scalar(12, 0.1);
  m["a.u8"] = Array(0, std::vector<uint64_t>{0, 255});
  m["a.i8"] = Array(1, std::vector<int64_t>{-1, 1});
  m["a.u16"] = Array(2, std::vector<uint64_t>{1});
  m["a.i16"] = Array(3, std::vector<int64_t>{-3});
  m["a.u32"] = Array(4, std::vector<uint64_t>{});
  m["a.i32"] = Array(5, std::vector<int64_t>{-5, 6, 7});
  m["a.f32"] = Array(6, std::vector<double>{0.5, -std::numeric_limits<double>::infinity()});
  m["a.bool"] = Array(7, std::vector<bool>{true, false, true});
  m["a.text"] = Array(8, std::vector<std::string>{"", "x", std::string(1000, 'y')});
  m["a.u64"] = Array(10, std::vector<uint64_t>{1ull << 63});
  m["a.i64"] = Array(11, std::vector<int64_t>{-(1ll << 62)});
  m["a.f64"] = Array(12, std::vector<double>{0.1, 1e300});
  return m;
}

void ExpectSame(const Metadata& got, const Metadata& want) {
  ASSERT_EQ(got.size(), want.size());
  for (const auto& [key, value] : want) {
    const auto it = got.find(key);
    ASSERT_NE(it, got.end()) << key;
    EXPECT_EQ(it->second.gguf_type, value.gguf_type) << key;
    EXPECT_EQ(it->second.array_type, value.array_type) << key;
    EXPECT_TRUE(it->second.value == value.value) << key;
  }
}

Status FillWithIndex(size_t index, std::span<std::byte> out) {
  std::memset(out.data(), static_cast<int>(index + 1), out.size());
  return {};
}

TEST(GgufWrite, RoundTripKeepsEveryValueTypeAndTensor) {
  const TempFolder folder;
  const Metadata metadata = EveryKindOfValue();
  std::vector<TensorSpec> specs;
  for (int i = 0; i < kDTypeCount; ++i) {
    const auto type = static_cast<DType>(i);
    if (Info(type).gguf_id < 0) continue;
    specs.push_back({"t." + std::string(Info(type).name), type, {3, 2, Info(type).block}});
  }
  specs.push_back({"scalar", DType::kF32, {}});
  const std::string path = folder / "out.gguf";
  const Status written = WriteGguf(path, metadata, specs, FillWithIndex);
  ASSERT_TRUE(written.ok()) << written.error().message;
  const auto file = WeightFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.error().message;
  ExpectSame(file->metadata(), metadata);
  ASSERT_EQ(file->tensors().size(), specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    const TensorInfo* t = file->Find(specs[i].name);
    ASSERT_NE(t, nullptr) << specs[i].name;
    EXPECT_EQ(t->type, specs[i].type);
    EXPECT_EQ(t->shape, specs[i].shape);
    for (const std::byte b : t->bytes) ASSERT_EQ(b, static_cast<std::byte>(i + 1));
  }
  // Writing what was read gives the same bytes.
  const std::string again = folder / "again.gguf";
  ASSERT_TRUE(WriteGguf(again, file->metadata(), specs, FillWithIndex).ok());
  EXPECT_EQ(ReadAll(path), ReadAll(again));
}

TEST(GgufWrite, HonoursTheStatedAlignment) {
  const TempFolder folder;
  Metadata metadata;
  metadata["general.alignment"] = Scalar(4, uint64_t{256});
  const std::vector<TensorSpec> specs = {{"a", DType::kF32, {1}}, {"b", DType::kF32, {1}}};
  const std::string path = folder / "out.gguf";
  ASSERT_TRUE(WriteGguf(path, metadata, specs, FillWithIndex).ok());
  EXPECT_EQ(ReadAll(path).size() % 256, 0u);
  const auto file = WeightFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->Find("b")->bytes.data() - file->Find("a")->bytes.data(), 256);
}

struct Refusal {
  const char* what;
  Metadata metadata;
  std::vector<TensorSpec> tensors;
  const char* message;
};

TEST(GgufWrite, RefusesWhatOthersCouldNotRead) {
  const TempFolder folder;
  const Refusal refusals[] = {
      {"duplicate", {}, {{"a", DType::kF32, {1}}, {"a", DType::kF32, {1}}}, "\"a\": given twice"},
      {"zero", {}, {{"a", DType::kF32, {2, 0}}}, "dimension of 0"},
      {"partial block", {}, {{"a", DType::kQ4_K, {100}}}, "not whole blocks of 256 Q4_K"},
      {"fp8", {}, {{"a", DType::kF8E4M3, {4}}}, "F8_E4M3 cannot be written to GGUF"},
      {"dims", {}, {{"a", DType::kF32, {1, 1, 1, 1, 1}}}, "over 4 dimensions"},
      {"long name", {}, {{std::string(64, 'n'), DType::kF32, {1}}}, "over the limit of 63"},
      {"alignment", {{"general.alignment", Scalar(4, uint64_t{24})}}, {}, "24 is not a power"},
      {"wrong type", {{"k", Scalar(4, true)}}, {}, "\"k\": the value is not of its stated type"},
      {"too large", {{"k", Scalar(0, uint64_t{256})}}, {}, "\"k\": the value is not of its stated"},
      {"inexact", {{"k", Scalar(6, 0.1)}}, {}, "\"k\": the value is not of its stated type"},
      {"wrong element", {{"k", Array(8, std::vector<bool>{true})}}, {}, "\"k\": the value is not"},
  };
  for (const Refusal& r : refusals) {
    const std::string path = folder / "out.gguf";
    const Status status = WriteGguf(path, r.metadata, r.tensors, FillWithIndex);
    ASSERT_FALSE(status.ok()) << r.what;
    EXPECT_NE(status.error().message.find(r.message), std::string::npos)
        << r.what << ": " << status.error().message;
    EXPECT_NE(status.error().message.find(path), std::string::npos) << r.what;
    EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << r.what;
  }
}

TEST(GgufWrite, AFailingFillLeavesNothingBehindAndKeepsTheOldFile) {
  const TempFolder folder;
  const std::string path = folder.Write("out.gguf", "old");
  const std::vector<TensorSpec> specs = {{"a", DType::kF32, {1}}};
  const Status status = WriteGguf(path, {}, specs, [](size_t, std::span<std::byte>) -> Status {
    return Error{Code::kNumeric, "NaN in a"};
  });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kNumeric);
  EXPECT_EQ(ReadAll(path), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

// A set of two files; the members are what the second one says.
struct SplitSet {
  uint16_t count = 2, number = 1;
  int32_t total = 2;
  std::string tensor = "b", architecture = "llama";

  void Write(const TempFolder& folder) const {
    GgufBytes first, second;
    first.Header(1, 4)
        .KeyString("general.architecture", "llama")
        .Key("split.no", 2, uint16_t{0})
        .Key("split.count", 2, uint16_t{2})
        .Key("split.tensors.count", 5, int32_t{2})
        .Tensor("a", {1}, test::kF32, 0)
        .Align()
        .Number(1.0f);
    second.Header(1, 4)
        .KeyString("general.architecture", architecture)
        .Key("split.no", 2, number)
        .Key("split.count", 2, count)
        .Key("split.tensors.count", 5, total)
        .Tensor(tensor, {1}, test::kF32, 0)
        .Align()
        .Number(2.0f);
    folder.Write("m-00001-of-00002.gguf", first.text());
    folder.Write("m-00002-of-00002.gguf", second.text());
  }
};

TEST(GgufSplit, AnyPartOpensTheWholeSetAsOne) {
  const TempFolder folder;
  SplitSet().Write(folder);
  for (const char* part : {"m-00001-of-00002.gguf", "m-00002-of-00002.gguf"}) {
    const auto file = WeightFile::Open(folder / part);
    ASSERT_TRUE(file.ok()) << file.error().message;
    ASSERT_EQ(file->tensors().size(), 2u);
    float b;
    std::memcpy(&b, file->Find("b")->bytes.data(), sizeof b);
    EXPECT_EQ(b, 2.0f);
    EXPECT_EQ(file->metadata().size(), 1u);
    EXPECT_TRUE(file->metadata().contains("general.architecture"));
  }
}

std::string SplitError(const SplitSet& set, const std::string& part = "m-00001-of-00002.gguf") {
  const TempFolder folder;
  set.Write(folder);
  const auto file = WeightFile::Open(folder / part);
  return file.ok() ? "opened" : file.error().message;
}

TEST(GgufSplit, PartsThatDisagreeAreRefused) {
  const std::string two = "m-00002-of-00002.gguf: ";
  SplitSet set;
  set.count = 3;
  EXPECT_NE(SplitError(set).find(two + "metadata key \"split.count\": 3"), std::string::npos);
  set = {};
  set.number = 0;
  EXPECT_NE(SplitError(set).find(two + "metadata key \"split.no\": 0"), std::string::npos);
  set = {};
  set.total = 5;
  EXPECT_NE(SplitError(set).find(two + "metadata key \"split.tensors.count\""), std::string::npos);
  set = {};
  set.tensor = "a";
  const std::string twice = SplitError(set);
  EXPECT_NE(twice.find(two + "tensor \"a\": also in "), std::string::npos) << twice;
  set = {};
  set.architecture = "qwen2";
  EXPECT_NE(SplitError(set).find(two + "metadata key \"general.architecture\""), std::string::npos);
}

TEST(GgufSplit, AMissingPartIsNamed) {
  const TempFolder folder;
  SplitSet().Write(folder);
  std::filesystem::remove(folder / "m-00002-of-00002.gguf");
  const auto file = WeightFile::Open(folder / "m-00001-of-00002.gguf");
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().code, Code::kNotFound);
  EXPECT_NE(file.error().message.find("m-00002-of-00002.gguf"), std::string::npos);
}

TEST(GgufSplit, ARenamedPartIsRefused) {
  const TempFolder folder;
  SplitSet().Write(folder);
  std::filesystem::rename(folder / "m-00001-of-00002.gguf", folder / "model.gguf");
  const auto file = WeightFile::Open(folder / "model.gguf");
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.error().message.find("was it renamed?"), std::string::npos);
}

TEST(GgufSplit, TotalOfTensorsMustBeTrue) {
  GgufBytes g;
  g.Header(1, 3)
      .Key("split.no", 2, uint16_t{0})
      .Key("split.count", 2, uint16_t{2})
      .Key("split.tensors.count", 5, int32_t{9})
      .Tensor("a", {1}, test::kF32, 0)
      .Align()
      .Number(1.0f);
  GgufBytes h;
  h.Header(0, 2).Key("split.no", 2, uint16_t{1}).Key("split.count", 2, uint16_t{2});
  const TempFolder folder;
  const std::string path = folder.Write("m-00001-of-00002.gguf", g.text());
  folder.Write("m-00002-of-00002.gguf", h.text());
  const auto file = WeightFile::Open(path);
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.error().message.find("\"split.tensors.count\": 9, but the 2 files hold 1"),
            std::string::npos)
      << file.error().message;
}

TEST(Metadata, LookUpsCheckTheType) {
  const Metadata m = EveryKindOfValue();
  EXPECT_EQ(*MetaUint(m, "k.u8"), 255u);
  EXPECT_EQ(*MetaUint(m, "missing"), std::nullopt);
  EXPECT_EQ(*MetaFloat(m, "k.f64"), 0.1);
  EXPECT_EQ(*MetaFloat(m, "k.u8"), 255.0);
  EXPECT_EQ(*MetaFloat(m, "missing"), std::nullopt);
  EXPECT_EQ(*MetaBool(m, "k.bool"), true);
  EXPECT_EQ(*MetaString(m, "general.architecture"), "llama");
  EXPECT_EQ(std::get<std::vector<int64_t>>(*MetaFindArray(m, "a.i32")),
            (std::vector<int64_t>{-5, 6, 7}));
  EXPECT_EQ(MetaFindArray(m, "k.u8"), nullptr);
  EXPECT_EQ(MetaFindArray(m, "missing"), nullptr);
  EXPECT_EQ(MetaUint(m, "k.i8").error().message,
            "metadata key \"k.i8\": is -128, wanted a number of at least 0");
  EXPECT_EQ(MetaUint(m, "k.text").error().message,
            "metadata key \"k.text\": is of type string, wanted a whole number");
  EXPECT_EQ(MetaFloat(m, "a.f32").error().message,
            "metadata key \"a.f32\": is of type array, wanted a number");
  EXPECT_FALSE(MetaBool(m, "k.u8").ok());
  EXPECT_FALSE(MetaString(m, "k.bool").ok());
}

}  // namespace
}  // namespace hadal
