#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "formats/test_files.h"
#include "formats/weight_file.h"
#include "formats/writer.h"

namespace hadal {
namespace {

using test::ReadAll;
using test::SafetensorsBytes;
using test::TempFolder;

const char* const kTwoTensors =
    R"({"__metadata__":{"format":"pt"},
        "w.weight":{"dtype":"F8_E4M3","shape":[2,3],"data_offsets":[4,10]},
        "w.weight_scale_inv":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}   )";

TEST(SafetensorsRead, OneFile) {
  const TempFolder folder;
  folder.Write("config.json", "{\"a\": 1}");
  const auto file = WeightFile::Open(folder.Write(
      "x.safetensors", SafetensorsBytes(kTwoTensors, std::string("\0\0\x80?abcdef", 10))));
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->kind(), WeightFile::Kind::kHuggingFace);
  EXPECT_TRUE(file->metadata().empty());
  const TensorInfo* w = file->Find("w.weight");
  ASSERT_NE(w, nullptr);
  EXPECT_EQ(w->type, DType::kF8E4M3);
  EXPECT_EQ(w->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(w->bytes.data(), "abcdef", 6), 0);
  const TensorInfo* scale = file->Find("w.weight_scale_inv");
  ASSERT_NE(scale, nullptr);
  EXPECT_EQ(scale->type, DType::kF32);
  EXPECT_EQ(*file->ReadText("config.json"), "{\"a\": 1}");
}

TEST(SafetensorsRead, ScalarsAndEscapedNames) {
  const TempFolder folder;
  const auto file = WeightFile::Open(folder.Write(
      "x.safetensors",
      SafetensorsBytes(R"({"caf\u00e9":{"shape":[],"data_offsets":[0,2],"dtype":"BF16"}})", "ab")));
  ASSERT_TRUE(file.ok()) << file.error().message;
  const TensorInfo* t = file->Find("caf\xc3\xa9");
  ASSERT_NE(t, nullptr);
  EXPECT_EQ(t->elements(), 1);
  EXPECT_EQ(t->rows(), 1);
  EXPECT_EQ(t->cols(), 1);
}

std::vector<TensorSpec> MixedSpecs() {
  return {{"norm", DType::kF32, {5}},
          {"q", DType::kF8E4M3, {3, 7}},
          {"q_scale_inv", DType::kF32, {1, 1}},
          {"w", DType::kBF16, {4, 3}},
          {"ids", DType::kI64, {2}}};
}

Status FillWithIndex(size_t index, std::span<std::byte> out) {
  std::memset(out.data(), static_cast<int>(index + 1), out.size());
  return {};
}

void ExpectMixed(const WeightFile& file) {
  const std::vector<TensorSpec> specs = MixedSpecs();
  ASSERT_EQ(file.tensors().size(), specs.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    const TensorInfo* t = file.Find(specs[i].name);
    ASSERT_NE(t, nullptr) << specs[i].name;
    EXPECT_EQ(t->type, specs[i].type) << specs[i].name;
    EXPECT_EQ(t->shape, specs[i].shape) << specs[i].name;
    for (const std::byte b : t->bytes) ASSERT_EQ(b, static_cast<std::byte>(i + 1));
    const auto address = reinterpret_cast<uintptr_t>(t->bytes.data());
    EXPECT_EQ(address % static_cast<size_t>(Info(t->type).bytes), 0u) << specs[i].name;
  }
}

const std::vector<FolderText> kTexts = {{"config.json", "{}"}, {"tokenizer.json", "{\"x\":1}"}};

TEST(FolderWrite, OneFileRoundTrip) {
  const TempFolder folder;
  const std::string path = folder / "a/b";
  const Status written = WriteHuggingFaceFolder(path, MixedSpecs(), FillWithIndex, kTexts);
  ASSERT_TRUE(written.ok()) << written.error().message;
  EXPECT_TRUE(std::filesystem::exists(path + "/model.safetensors"));
  const auto file = WeightFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.error().message;
  ExpectMixed(*file);
  EXPECT_EQ(*file->ReadText("tokenizer.json"), "{\"x\":1}");
}

TEST(FolderWrite, ShardsRoundTripWithAnIndex) {
  const TempFolder folder;
  const Status written =
      WriteHuggingFaceFolder(folder.path(), MixedSpecs(), FillWithIndex, kTexts, 45);
  ASSERT_TRUE(written.ok()) << written.error().message;
  const auto index = nlohmann::json::parse(ReadAll(folder / "model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], 20 + 21 + 4 + 24 + 16);
  EXPECT_EQ(index["weight_map"]["norm"], "model-00001-of-00002.safetensors");
  EXPECT_EQ(index["weight_map"]["ids"], "model-00002-of-00002.safetensors");
  EXPECT_EQ(index["weight_map"].size(), 5u);
  const auto file = WeightFile::Open(folder.path());
  ASSERT_TRUE(file.ok()) << file.error().message;
  ExpectMixed(*file);
}

TEST(FolderWrite, ReplacesAModelOfTheOtherKind) {
  const TempFolder folder;
  for (const uint64_t shard_bytes : {uint64_t{1} << 30, uint64_t{45}, uint64_t{1} << 30}) {
    ASSERT_TRUE(
        WriteHuggingFaceFolder(folder.path(), MixedSpecs(), FillWithIndex, kTexts, shard_bytes)
            .ok());
    const bool single = shard_bytes > 1000;
    EXPECT_EQ(std::filesystem::exists(folder / "model.safetensors"), single);
    EXPECT_EQ(std::filesystem::exists(folder / "model.safetensors.index.json"), !single);
    const auto file = WeightFile::Open(folder.path());
    ASSERT_TRUE(file.ok()) << file.error().message;
    ExpectMixed(*file);
  }
}

TEST(FolderWrite, RefusesWhatCannotBeStored) {
  const TempFolder folder;
  const auto error = [&](std::vector<TensorSpec> specs, std::vector<FolderText> texts) {
    const Status s = WriteHuggingFaceFolder(folder / "out", specs, FillWithIndex, texts);
    return s.ok() ? "written" : s.error().message;
  };
  EXPECT_NE(error({{"a", DType::kQ4_0, {32}}}, {}).find("Q4_0 cannot be written to safetensors"),
            std::string::npos);
  EXPECT_NE(error({{"a", DType::kF32, {1}}, {"a", DType::kF32, {1}}}, {}).find("given twice"),
            std::string::npos);
  EXPECT_NE(error({{"a", DType::kF32, {-1}}}, {}).find("dimension of -1"), std::string::npos);
  EXPECT_NE(error({}, {{"../config.json", ""}}).find("not a plain file name"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
}

TEST(FolderWrite, AFailingFillLeavesNoPartialFile) {
  const TempFolder folder;
  const Status s = WriteHuggingFaceFolder(folder.path(), MixedSpecs(),
                                          [](size_t i, std::span<std::byte>) -> Status {
                                            if (i == 0)
                                              return Error{Code::kNumeric, "tensor \"norm\": NaN"};
                                            return {};
                                          },
                                          {});
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.error().code, Code::kNumeric);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace hadal
