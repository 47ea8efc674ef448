// Files that lie. Each must be refused with an error that names the file, the tensor or key, and
// the value; none may crash, hang, or take more memory than its size warrants.
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <numeric>

#include "formats/test_files.h"
#include "formats/weight_file.h"

namespace hadal {
namespace {

using test::GgufBytes;
using test::SafetensorsBytes;
using test::TempFolder;

std::string ErrorOf(const std::string& path) {
  const auto file = WeightFile::Open(path);
  return file.ok() ? "opened" : file.error().message;
}

// The file m.gguf with these bytes is refused with its name and each of the given parts.
void ExpectGgufError(const GgufBytes& bytes, const std::vector<std::string>& parts) {
  const TempFolder folder;
  const std::string error = ErrorOf(folder.Write("m.gguf", bytes.text()));
  EXPECT_NE(error.find("/m.gguf: "), std::string::npos) << error;
  for (const std::string& part : parts) {
    EXPECT_NE(error.find(part), std::string::npos) << error << "\n  lacks " << part;
  }
}

void ExpectSafetensorsError(const std::string& header, const std::string& data,
                            const std::vector<std::string>& parts) {
  const TempFolder folder;
  const std::string error = ErrorOf(folder.Write("m.safetensors", SafetensorsBytes(header, data)));
  EXPECT_NE(error.find("/m.safetensors: "), std::string::npos) << error;
  for (const std::string& part : parts) {
    EXPECT_NE(error.find(part), std::string::npos) << error << "\n  lacks " << part;
  }
}

constexpr uint64_t kHuge = ~uint64_t{0};

// --- GGUF: header and counts ---

TEST(HostileGguf, EmptyFile) {
  const TempFolder folder;
  EXPECT_NE(ErrorOf(folder.Write("m.gguf", "")).find("neither a GGUF file"), std::string::npos);
}
TEST(HostileGguf, OnlyTheMagic) { ExpectGgufError(GgufBytes().Raw("GGUF"), {"not a GGUF file"}); }
TEST(HostileGguf, OtherVersion) {
  ExpectGgufError(GgufBytes().Header(0, 0, 1), {"version 1;"});
  ExpectGgufError(GgufBytes().Header(0, 0, 4), {"version 4;"});
}
TEST(HostileGguf, BigEndian) {
  ExpectGgufError(GgufBytes().Header(0, 0, 0x03000000), {"big-endian"});
}
TEST(HostileGguf, TensorCountHuge) {
  ExpectGgufError(GgufBytes().Header(kHuge, 0), {"tensor count 18446744073709551615", "limit"});
}
TEST(HostileGguf, TensorCountBeyondTheFile) {
  ExpectGgufError(GgufBytes().Header(60000, 0), {"tensor count 60000", "24 bytes"});
}
TEST(HostileGguf, TensorCountBeyondWhatFollowsTheMetadata) {
  GgufBytes g;
  g.Header(5, 1).KeyString("k", std::string(1000, 'x'));
  ExpectGgufError(g, {"tensor count 5", "0 bytes behind the metadata"});
}
TEST(HostileGguf, MetadataCountHuge) {
  ExpectGgufError(GgufBytes().Header(0, kHuge), {"metadata count 18446744073709551615", "limit"});
}
TEST(HostileGguf, MetadataCountBeyondTheFile) {
  ExpectGgufError(GgufBytes().Header(0, 30000), {"metadata count 30000", "cannot fit"});
}

// --- GGUF: metadata ---

GgufBytes OneKey(const std::string& key = "k") {
  GgufBytes g;
  g.Header(0, 1).String(key);
  return g;
}
const std::string kPadding(64, '\0');

TEST(HostileGguf, KeyLengthOverflows) {
  ExpectGgufError(GgufBytes().Header(0, 1).Number(kHuge).Raw(kPadding),
                  {"metadata key 0", "string length 18446744073709551615"});
}
TEST(HostileGguf, KeyOverTheLimit) {
  ExpectGgufError(OneKey(std::string(65536, 'k')).Raw(kPadding), {"65536", "limit of 65535"});
}
TEST(HostileGguf, KeyEmpty) { ExpectGgufError(OneKey("").Raw(kPadding), {"an empty name"}); }
TEST(HostileGguf, KeyNotUtf8) {
  for (const char* key :
       {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "a\x80"}) {
    ExpectGgufError(OneKey(key).Raw(kPadding), {"metadata key 0", "\\x", "is not UTF-8"});
  }
}
TEST(HostileGguf, KeyWithControlCharacters) {
  ExpectGgufError(OneKey("a\x1b[2J").Raw(kPadding), {"\"a\\x1b[2J\"", "control characters"});
  ExpectGgufError(OneKey(std::string("a\0b", 3)).Raw(kPadding), {"\"a\\x00b\""});
}
TEST(HostileGguf, KeyStatedTwice) {
  GgufBytes g;
  g.Header(0, 2).Key("k.same", 4, uint32_t{1}).Key("k.same", 4, uint32_t{2});
  ExpectGgufError(g, {"\"k.same\": stated twice"});
}
TEST(HostileGguf, ValueTypeUnknown) {
  ExpectGgufError(OneKey().Number(uint32_t{13}).Raw(kPadding), {"\"k\"", "value type 13"});
}
TEST(HostileGguf, BoolNeitherTrueNorFalse) {
  ExpectGgufError(OneKey().Number(uint32_t{7}).Number(uint8_t{2}), {"\"k\"", "bool is 2"});
}
TEST(HostileGguf, StringPastTheEnd) {
  ExpectGgufError(OneKey().Number(uint32_t{8}).Number(uint64_t{100}).Raw("abc"),
                  {"\"k\"", "string length 100", "3 bytes left"});
}
TEST(HostileGguf, StringOverTheLimit) {
  const std::string text((16 << 20) + 1, 'x');
  ExpectGgufError(OneKey().Number(uint32_t{8}).String(text), {"\"k\"", "16777217", "limit"});
}
TEST(HostileGguf, ArrayCountOverflows) {
  // 2^61 elements of 8 bytes are 2^64 bytes, zero when the product wraps.
  for (const uint64_t count : {kHuge, uint64_t{1} << 61}) {
    ExpectGgufError(OneKey().Number(uint32_t{9}).Number(uint32_t{10}).Number(count).Raw(kPadding),
                    {"\"k\"", "array count " + std::to_string(count)});
  }
}
TEST(HostileGguf, ArrayOfStringsBeyondTheFile) {
  ExpectGgufError(
      OneKey().Number(uint32_t{9}).Number(uint32_t{8}).Number(uint64_t{9}).Raw(kPadding),
      {"\"k\"", "array count 9", "64 bytes left"});
}
TEST(HostileGguf, ArrayElementsOverTheLimit) {
  const uint64_t count = (1 << 21) + 1;
  ExpectGgufError(
      OneKey().Number(uint32_t{9}).Number(uint32_t{0}).Number(count).Raw(std::string(count, '\1')),
      {"\"k\"", "2097153", "limit of 2097152 array elements"});
}
TEST(HostileGguf, ArrayOfArrays) {
  ExpectGgufError(
      OneKey().Number(uint32_t{9}).Number(uint32_t{9}).Number(uint64_t{1}).Raw(kPadding),
      {"\"k\"", "array of arrays"});
}
TEST(HostileGguf, ArrayTypeUnknown) {
  ExpectGgufError(
      OneKey().Number(uint32_t{9}).Number(uint32_t{99}).Number(uint64_t{1}).Raw(kPadding),
      {"\"k\"", "array element type 99"});
}
TEST(HostileGguf, AlignmentNotAPowerOfTwoInRange) {
  for (const uint32_t alignment : {0u, 24u, 0x80000000u, 0xffffffffu, 2u << 20}) {
    GgufBytes g;
    g.Header(1, 1).Key("general.alignment", 4, alignment).Tensor("t", {1}, test::kF32, 0);
    ExpectGgufError(g.Raw(kPadding), {"\"general.alignment\": " + std::to_string(alignment)});
  }
}
TEST(HostileGguf, AlignmentOfAnotherType) {
  GgufBytes g;
  g.Header(0, 1).KeyString("general.alignment", "32");
  ExpectGgufError(g, {"\"general.alignment\": not of type u32"});
}

// --- GGUF: tensors ---

GgufBytes OneTensor(const std::vector<uint64_t>& dims, uint32_t type = test::kF32,
                    uint64_t offset = 0) {
  GgufBytes g;
  g.Header(1, 0).Tensor("blk.0.w", dims, type, offset).Align().Raw(kPadding);
  return g;
}

TEST(HostileGguf, TensorNameOverTheLimit) {
  GgufBytes g;
  g.Header(1, 0).Tensor(std::string(1025, 'n'), {1}, test::kF32, 0);
  ExpectGgufError(g.Raw(kPadding), {"tensor 0", "1025", "limit of 1024"});
}
TEST(HostileGguf, TensorNameNotUtf8) {
  GgufBytes g;
  g.Header(1, 0).Tensor("w\xfe", {1}, test::kF32, 0);
  ExpectGgufError(g.Raw(kPadding), {"tensor 0", "\"w\\xfe\"", "not UTF-8"});
}
TEST(HostileGguf, TensorNameEmpty) {
  GgufBytes g;
  g.Header(1, 0).Tensor("", {1}, test::kF32, 0);
  ExpectGgufError(g.Raw(kPadding), {"tensor 0", "empty name"});
}
TEST(HostileGguf, TensorStatedTwice) {
  GgufBytes g;
  g.Header(3, 0)
      .Tensor("w", {1}, test::kF32, 0)
      .Tensor("x", {1}, test::kF32, 32)
      .Tensor("w", {1}, test::kF32, 64);
  ExpectGgufError(g.Align().Raw(std::string(96, '\0')), {"\"w\": stated twice"});
}
TEST(HostileGguf, DimensionCountHuge) {
  ExpectGgufError(OneTensor({1, 1, 1, 1, 1}), {"\"blk.0.w\"", "dimension count 5"});
  GgufBytes g;
  g.Header(1, 0).String("w").Number(uint32_t{0xffffffff}).Raw(kPadding);
  ExpectGgufError(g, {"\"w\"", "dimension count 4294967295"});
}
TEST(HostileGguf, DimensionZero) {
  ExpectGgufError(OneTensor({32, 0}), {"\"blk.0.w\"", "[0, 32]", "dimension of 0"});
  ExpectGgufError(OneTensor({0}, test::kQ4_0), {"\"blk.0.w\"", "[0]", "dimension of 0"});
}
TEST(HostileGguf, DimensionNegativeWhenSigned) {
  ExpectGgufError(OneTensor({kHuge}), {"\"blk.0.w\"", "18446744073709551615"});
}
TEST(HostileGguf, DimensionProductOverflows) {
  const uint64_t n = uint64_t{1} << 32;
  ExpectGgufError(OneTensor({n, n}), {"\"blk.0.w\"", "[4294967296, 4294967296]", "elements"});
  const uint64_t wraps = uint64_t{1} << 16;  // 2^64 elements wrap to none
  ExpectGgufError(OneTensor({wraps, wraps, wraps, wraps}), {"\"blk.0.w\"", "elements"});
}
TEST(HostileGguf, RowNotWholeBlocks) {
  ExpectGgufError(OneTensor({33}, test::kQ4_0), {"\"blk.0.w\"", "33", "blocks of 32 Q4_0"});
  // The element count is a whole number of blocks, but the rows are not.
  ExpectGgufError(OneTensor({16, 2}, test::kQ4_0), {"\"blk.0.w\"", "[2, 16]", "blocks of 32"});
}
TEST(HostileGguf, TensorTypeUnknown) {
  ExpectGgufError(OneTensor({1}, 4), {"\"blk.0.w\"", "tensor type 4 is not supported"});
  ExpectGgufError(OneTensor({1}, 0xffffffff), {"\"blk.0.w\"", "tensor type 4294967295"});
}
TEST(HostileGguf, OffsetNotAligned) {
  ExpectGgufError(OneTensor({1}, test::kF32, 4), {"\"blk.0.w\"", "offset 4", "alignment 32"});
}
TEST(HostileGguf, OffsetOverflows) {
  ExpectGgufError(OneTensor({1}, test::kF32, kHuge - 31),
                  {"\"blk.0.w\"", "offset 18446744073709551584"});
}
TEST(HostileGguf, TensorPastTheEnd) {
  ExpectGgufError(OneTensor({17}), {"\"blk.0.w\"", "F32 [17]", "68 bytes", "64 bytes of tensors"});
  ExpectGgufError(OneTensor({1}, test::kF32, 64), {"\"blk.0.w\"", "offset 64"});
}
TEST(HostileGguf, TensorsWithoutAnyData) {
  GgufBytes g;
  g.Header(1, 0).Tensor("w", {1}, test::kF32, 0);
  ExpectGgufError(g, {"\"w\"", "0 bytes of tensors"});
}
TEST(HostileGguf, TensorsOverlap) {
  GgufBytes g;
  g.Header(2, 0).Tensor("w", {12}, test::kF32, 0).Tensor("x", {4}, test::kF32, 32);
  ExpectGgufError(g.Align().Raw(kPadding), {"\"x\": overlaps tensor \"w\" by 16 bytes"});
  GgufBytes h;
  h.Header(2, 0).Tensor("w", {4}, test::kF32, 0).Tensor("x", {4}, test::kF32, 0);
  ExpectGgufError(h.Align().Raw(kPadding), {"overlaps tensor", "by 16 bytes"});
}
TEST(HostileGguf, BytesBehindTheLastTensorAreTolerated) {
  GgufBytes g = OneTensor({1});
  const TempFolder folder;
  EXPECT_EQ(ErrorOf(folder.Write("m.gguf", g.Raw(kPadding).text())), "opened");
}
TEST(HostileGguf, CutOffAtEveryByte) {
  GgufBytes g;
  g.Header(2, 2).KeyString("a", "text").String("b").Number(uint32_t{9}).Number(uint32_t{4});
  g.Number(uint64_t{2}).Number(uint32_t{1}).Number(uint32_t{2});
  g.Tensor("w", {2, 2}, test::kF32, 0).Tensor("x", {32}, test::kQ4_0, 32).Align();
  g.Raw(std::string(32 + 18, 'z'));
  const TempFolder folder;
  ASSERT_EQ(ErrorOf(folder.Write("m.gguf", g.text())), "opened");
  for (size_t n = 0; n < g.text().size(); ++n) {
    const std::string error = ErrorOf(folder.Write("m.gguf", g.text().substr(0, n)));
    ASSERT_NE(error, "opened") << n;
    ASSERT_NE(error.find("/m.gguf: "), std::string::npos) << error;
  }
}
TEST(HostileGguf, EveryByteReplacedNeverCrashes) {
  GgufBytes g;
  g.Header(1, 1).KeyString("a", "text").Tensor("w", {2, 2}, test::kF32, 0).Align().Raw(kPadding);
  const TempFolder folder;
  for (size_t i = 0; i < g.text().size() - kPadding.size(); ++i) {
    for (const char c : {'\0', '\x01', '\x7f', '\xff'}) {
      std::string bytes = g.text();
      bytes[i] = c;
      const auto file = WeightFile::Open(folder.Write("m.gguf", bytes));
      if (!file.ok()) continue;
      for (const TensorInfo& t : file->tensors()) {
        ASSERT_LE(t.bytes.size(), bytes.size()) << i;
      }
    }
  }
}
TEST(HostileGguf, SplitCountHuge) {
  GgufBytes g;
  g.Header(0, 2).Key("split.count", 2, uint16_t{65535}).Key("split.no", 2, uint16_t{0});
  const TempFolder folder;
  EXPECT_NE(ErrorOf(folder.Write("m-00001-of-65535.gguf", g.text())).find("limit of 2048"),
            std::string::npos);
}
TEST(HostileGguf, SplitCountNotANumber) {
  GgufBytes g;
  g.Header(0, 1).KeyString("split.count", "2");
  ExpectGgufError(g, {"\"split.count\": is of type string"});
}

// --- safetensors ---

const std::string kGoodHeader = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

TEST(HostileSafetensors, ShorterThanItsLengthField) {
  const TempFolder folder;
  EXPECT_NE(ErrorOf(folder.Write("m.safetensors", "abc")).find("only 3 bytes"), std::string::npos);
  EXPECT_NE(ErrorOf(folder.Write("m.safetensors", "")).find("only 0 bytes"), std::string::npos);
}
TEST(HostileSafetensors, HeaderLengthHuge) {
  const TempFolder folder;
  const std::string error =
      ErrorOf(folder.Write("m.safetensors", std::string(8, '\xff') + kGoodHeader));
  EXPECT_NE(error.find("header length 18446744073709551615 exceeds"), std::string::npos) << error;
}
TEST(HostileSafetensors, HeaderLengthOverTheLimit) {
  const TempFolder folder;
  const uint64_t length = 100'000'001;
  const std::string path = folder.Write(
      "m.safetensors", std::string(reinterpret_cast<const char*>(&length), sizeof length));
  ASSERT_EQ(truncate(path.c_str(), 100'000'100), 0);
  EXPECT_NE(ErrorOf(path).find("100000001 exceeds the limit"), std::string::npos);
}
TEST(HostileSafetensors, HeaderNotJson) {
  ExpectSafetensorsError("", "", {"not valid JSON"});
  ExpectSafetensorsError("{\"w\":", "", {"not valid JSON at byte"});
  ExpectSafetensorsError(kGoodHeader + "x", "12345678", {"not valid JSON"});
  ExpectSafetensorsError("[]", "", {"header: an array is not expected"});
  ExpectSafetensorsError("7", "", {"header: 7 is not expected"});
  ExpectSafetensorsError("{\"w\":1e999}", "", {"not valid JSON"});
}
TEST(HostileSafetensors, HeaderNotUtf8) {
  ExpectSafetensorsError("{\"w\xff\":{}}", "", {"not valid JSON"});
  ExpectSafetensorsError("{\"\\ud800\":{}}", "", {"not valid JSON"});
}
TEST(HostileSafetensors, NameWithControlCharacters) {
  ExpectSafetensorsError("{\"a\\u0000b\":{}}", "", {"\"a\\x00b\"", "control characters"});
}
TEST(HostileSafetensors, NameOverTheLimit) {
  ExpectSafetensorsError("{\"" + std::string(1025, 'n') + "\":{}}", "", {"limit of 1024"});
}
TEST(HostileSafetensors, NestedDeep) {
  std::string deep = "{\"a\":{\"dtype\":";
  for (int i = 0; i < 200000; ++i) deep += "{\"a\":";
  ExpectSafetensorsError(deep, "", {"tensor \"a\"", "an object is not expected"});
  ExpectSafetensorsError("{\"w\":{\"shape\":" + std::string(200000, '['), "",
                         {"tensor \"w\"", "an array is not expected"});
}
TEST(HostileSafetensors, NameStatedTwice) {
  ExpectSafetensorsError(R"({"w":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},
                             "v":{"dtype":"I8","shape":[1],"data_offsets":[1,2]},
                             "w":{"dtype":"I8","shape":[1],"data_offsets":[2,3]}})",
                         "abc", {"\"w\": stated twice"});
}
TEST(HostileSafetensors, FieldStatedTwiceMissingOrUnknown) {
  ExpectSafetensorsError(R"({"w":{"dtype":"F32","dtype":"F16"}})", "",
                         {"tensor \"w\": \"dtype\" is stated twice"});
  ExpectSafetensorsError(R"({"w":{"dtype":"F32","shape":[2]}})", "",
                         {"tensor \"w\"", "is missing"});
  ExpectSafetensorsError(R"({"w":{"stride":[1]}})", "", {"tensor \"w\": unknown key \"stride\""});
  ExpectSafetensorsError(R"({"__metadata__":{},"__metadata__":{}})", "", {"stated twice"});
  ExpectSafetensorsError(R"({"__metadata__":{"a":1}})", "", {"1 is not expected"});
}
TEST(HostileSafetensors, TypeUnknownOrNotForThisFormat) {
  ExpectSafetensorsError(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "a",
                         {"tensor \"w\"", "dtype \"U8\" is not supported"});
  ExpectSafetensorsError(R"({"w":{"dtype":"Q4_K","shape":[2],"data_offsets":[0,8]}})", "12345678",
                         {"tensor \"w\"", "dtype \"Q4_K\" is not supported"});
  ExpectSafetensorsError(R"({"w":{"dtype":3}})", "", {"tensor \"w\": 3 is not expected"});
}
TEST(HostileSafetensors, DimensionsLie) {
  const auto with_shape = [](const std::string& shape) {
    return "{\"w\":{\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":[0,8]}}";
  };
  ExpectSafetensorsError(with_shape("[0]"), "12345678", {"\"w\"", "dimension of 0"});
  ExpectSafetensorsError(with_shape("[-2]"), "12345678", {"\"w\": -2 is not expected"});
  ExpectSafetensorsError(with_shape("[2.0]"), "12345678", {"\"w\": \"2.0\" is not expected"});
  ExpectSafetensorsError(with_shape("[\"2\"]"), "12345678", {"\"w\": \"2\" is not expected"});
  ExpectSafetensorsError(with_shape("[3]"), "12345678", {"\"w\"", "8 bytes", "needs 12"});
  ExpectSafetensorsError(with_shape("[4294967296,4294967296]"), "12345678",
                         {"\"w\"", "impossibly many"});
  ExpectSafetensorsError(with_shape("[18446744073709551615]"), "12345678",
                         {"\"w\"", "impossibly large"});
  ExpectSafetensorsError(with_shape("[99999999999999999999]"), "12345678", {"\"w\"", "99999"});
  ExpectSafetensorsError(with_shape("[1,1,1,1,1,1,1,1,2]"), "12345678", {"\"w\"", "8 dimensions"});
}
TEST(HostileSafetensors, OffsetsLie) {
  const auto with_offsets = [](const std::string& offsets) {
    return "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" + offsets + "}}";
  };
  ExpectSafetensorsError(with_offsets("[8,0]"), "12345678", {"\"w\": data_offsets [8, 0]"});
  ExpectSafetensorsError(with_offsets("[0,16]"), "12345678", {"\"w\"", "[0, 16]", "8 bytes of"});
  ExpectSafetensorsError(with_offsets("[18446744073709551608,18446744073709551615]"), "12345678",
                         {"\"w\"", "18446744073709551615"});
  ExpectSafetensorsError(with_offsets("[0]"), "12345678", {"\"w\"", "two numbers"});
  ExpectSafetensorsError(with_offsets("[0,8,9]"), "12345678", {"\"w\"", "two numbers"});
  ExpectSafetensorsError(with_offsets("8"), "12345678", {"\"w\": 8 is not expected"});
  ExpectSafetensorsError(with_offsets("[0,7]"), "12345678", {"\"w\"", "hold 7 bytes", "needs 8"});
}
TEST(HostileSafetensors, TensorsOverlap) {
  ExpectSafetensorsError(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                             "x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                         "12345678", {"\"x\": overlaps tensor \"w\" by 4 bytes"});
}
TEST(HostileSafetensors, GapBetweenTensors) {
  ExpectSafetensorsError(R"({"w":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},
                             "x":{"dtype":"I8","shape":[1],"data_offsets":[3,4]}})",
                         "1234", {"\"x\"", "gap of 2 bytes"});
}
TEST(HostileSafetensors, FileLargerThanItsHeaderSays) {
  ExpectSafetensorsError(kGoodHeader, "123456789", {"8 bytes of tensors", "holds 9"});
}
TEST(HostileSafetensors, CutOffAtEveryByte) {
  const std::string whole = SafetensorsBytes(kGoodHeader, "12345678");
  const TempFolder folder;
  ASSERT_EQ(ErrorOf(folder.Write("m.safetensors", whole)), "opened");
  for (size_t n = 0; n < whole.size(); ++n) {
    ASSERT_NE(ErrorOf(folder.Write("m.safetensors", whole.substr(0, n))), "opened") << n;
  }
}

// --- folders and indices ---

// A folder of two shards holding "a" and "b", under an index with this weight_map.
class IndexedFolder {
 public:
  explicit IndexedFolder(const std::string& index, const std::string& second = "b") {
    const auto shard = [](const std::string& name) {
      return SafetensorsBytes(
          "{\"" + name + "\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "x");
    };
    folder_.Write("config.json", "{}");
    folder_.Write("one.safetensors", shard("a"));
    folder_.Write("two.safetensors", shard(second));
    folder_.Write("model.safetensors.index.json", index);
  }
  const TempFolder& folder() const { return folder_; }
  void ExpectError(const std::vector<std::string>& parts) const {
    const std::string error = ErrorOf(folder_.path());
    EXPECT_NE(error.find(folder_.path()), std::string::npos) << error;
    for (const std::string& part : parts) {
      EXPECT_NE(error.find(part), std::string::npos) << error << "\n  lacks " << part;
    }
  }

 private:
  TempFolder folder_;
};

std::string Map(const std::string& entries) { return "{\"weight_map\":{" + entries + "}}"; }
const std::string kGoodMap = R"("a":"one.safetensors","b":"two.safetensors")";

TEST(HostileFolder, GoodIndexOpens) {
  const IndexedFolder f("{\"metadata\":{\"total_size\":2,\"x\":[1,{\"y\":null}]},\"weight_map\":{" +
                        kGoodMap + "}}");
  EXPECT_EQ(ErrorOf(f.folder().path()), "opened");
}
TEST(HostileFolder, ShardNamesLeadOutside) {
  for (const char* name :
       {"../one.safetensors", "/etc/one.safetensors", "sub/one.safetensors", "..", ".", "",
        "one.safetensors/", "./one.safetensors", "one.safetensors\\u0000", "\\u001b.safetensors"}) {
    IndexedFolder(Map("\"a\":\"" + std::string(name) + "\""))
        .ExpectError({"index.json", "tensor \"a\"", "plain name"});
  }
}
TEST(HostileFolder, ShardOfAnotherKind) {
  IndexedFolder(Map(R"("a":"config.json")")).ExpectError({"\"config.json\"", "plain name"});
  IndexedFolder(Map(R"("a":7)")).ExpectError({"tensor \"a\": 7 is not expected"});
}
TEST(HostileFolder, ShardMissing) {
  IndexedFolder(Map(R"("a":"three.safetensors")")).ExpectError({"three.safetensors: No such file"});
}
TEST(HostileFolder, TensorNotInItsShard) {
  IndexedFolder(Map(R"("a":"one.safetensors","b":"one.safetensors")"))
      .ExpectError({"tensor \"b\": not in \"one.safetensors\", nor in any shard"});
  IndexedFolder(Map(R"("a":"two.safetensors","b":"one.safetensors")"))
      .ExpectError({"tensor \"a\": not in \"two.safetensors\" but in ", "one.safetensors"});
}
TEST(HostileFolder, TwoShardsHoldTheSameTensor) {
  IndexedFolder(Map(R"("a":"one.safetensors","c":"two.safetensors")"), "a")
      .ExpectError({"two.safetensors: tensor \"a\": also in ", "one.safetensors"});
}
TEST(HostileFolder, IndexStatesATensorTwice) {
  IndexedFolder(Map(R"("a":"one.safetensors","a":"two.safetensors")"))
      .ExpectError({"tensor \"a\" is stated twice"});
  IndexedFolder("{\"weight_map\":{},\"weight_map\":{}}").ExpectError({"weight_map: stated twice"});
}
TEST(HostileFolder, IndexMalformed) {
  IndexedFolder("").ExpectError({"not valid JSON"});
  IndexedFolder("{}").ExpectError({"no weight_map"});
  IndexedFolder("[1]").ExpectError({"an array is not expected"});
  IndexedFolder("{\"weight_map\":[]}").ExpectError({"an array is not expected"});
  IndexedFolder("{\"weight_map\":{\"a\":{}}}").ExpectError({"an object is not expected"});
  IndexedFolder("{\"weight_map\":{\"a\":[\"one.safetensors\"]}}").ExpectError({"not expected"});
  IndexedFolder("{\"weight_map\":\"one.safetensors\"}").ExpectError({"is not expected"});
}
TEST(HostileFolder, IndexNestedDeep) {
  IndexedFolder("{\"metadata\":" + std::string(100000, '[')).ExpectError({"nested over 64 deep"});
}
TEST(HostileFolder, MixedUpFolders) {
  const TempFolder folder;
  EXPECT_NE(ErrorOf(folder.path()).find("no config.json"), std::string::npos);
  folder.Write("config.json", "{}");
  EXPECT_NE(ErrorOf(folder.path()).find("neither model.safetensors nor"), std::string::npos);
  EXPECT_NE(ErrorOf(folder / "config.json").find("neither a GGUF file"), std::string::npos);
  EXPECT_NE(ErrorOf(folder / "missing.gguf").find("No such file"), std::string::npos);
}
TEST(HostileFolder, CacheSnapshotLinksAreFollowed) {
  // As huggingface_hub lays them out: snapshots/REV/model.safetensors -> ../../blobs/HASH.
  const TempFolder folder;
  std::filesystem::create_directories(folder / "blobs");
  std::filesystem::create_directories(folder / "snapshots/rev");
  folder.Write("blobs/1234", SafetensorsBytes(kGoodHeader, "12345678"));
  folder.Write("blobs/5678", "{}");
  std::filesystem::create_symlink("../../blobs/1234", folder / "snapshots/rev/model.safetensors");
  std::filesystem::create_symlink("../../blobs/5678", folder / "snapshots/rev/config.json");
  const auto file = WeightFile::Open(folder / "snapshots/rev");
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(*file->ReadText("config.json"), "{}");
}
TEST(HostileFolder, LinksToWhatIsNoFile) {
  const TempFolder folder;
  folder.Write("config.json", "{}");
  std::filesystem::create_symlink("/dev/zero", folder / "model.safetensors");
  EXPECT_NE(ErrorOf(folder.path()).find("not a regular file"), std::string::npos);
  std::filesystem::remove(folder / "model.safetensors");
  std::filesystem::create_symlink("model.safetensors", folder / "model.safetensors");
  EXPECT_NE(ErrorOf(folder.path()), "opened");  // a link to itself
  std::filesystem::remove(folder / "model.safetensors");
  ASSERT_EQ(mkfifo((folder / "model.safetensors").c_str(), 0600), 0);
  EXPECT_NE(ErrorOf(folder.path()).find("not a regular file"), std::string::npos);
}
TEST(HostileFolder, TextNamesStayInTheFolder) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "in");
  folder.Write("secret.json", "s");
  folder.Write("in/config.json", "{}");
  folder.Write("in/model.safetensors", SafetensorsBytes(kGoodHeader, "12345678"));
  const auto file = WeightFile::Open(folder / "in");
  ASSERT_TRUE(file.ok()) << file.error().message;
  for (const std::string name : {"../secret.json", "..", "", ".", "sub/x.json", "/etc/passwd"}) {
    const auto text = file->ReadText(name);
    ASSERT_FALSE(text.ok()) << name;
    EXPECT_NE(text.error().message.find("not the plain name"), std::string::npos);
  }
  EXPECT_EQ(file->ReadText("missing.json").error().code, Code::kNotFound);
}

// --- files that change while they are mapped ---

constexpr int kFloats = 1 << 16;

std::string LargeGguf() {
  GgufBytes g;
  g.Header(1, 0).Tensor("w", {kFloats}, test::kF32, 0).Align();
  return g.Raw(std::string(kFloats * 4, '\1')).text();
}
int SumOfBytes(const TensorInfo& t) {
  return std::accumulate(t.bytes.begin(), t.bytes.end(), 0,
                         [](int sum, std::byte b) { return sum + static_cast<int>(b); });
}

TEST(ChangingFile, CutOffWhileMappedIsAnErrorAndNoSignal) {
  const TempFolder folder;
  const std::string path = folder.Write("m.gguf", LargeGguf());
  const auto file = WeightFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.error().message;
  ASSERT_TRUE(file->CheckIntact().ok());
  ASSERT_EQ(truncate(path.c_str(), 10000), 0);
  EXPECT_LT(SumOfBytes(file->tensors()[0]), kFloats * 4);
  const Status status = file->CheckIntact();
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kCorrupt);
  EXPECT_NE(status.error().message.find("m.gguf: was cut off while in use"), std::string::npos);
}
TEST(ChangingFile, CutOffWithinTheLastPageIsSeen) {
  const TempFolder folder;
  const std::string bytes = LargeGguf();
  const std::string path = folder.Write("m.gguf", bytes);
  const auto file = WeightFile::Open(path);
  ASSERT_TRUE(file.ok());
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(bytes.size() - 5)), 0);
  SumOfBytes(file->tensors()[0]);
  const Status status = file->CheckIntact();
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("from " + std::to_string(bytes.size())), std::string::npos);
}
TEST(ChangingFile, CutOffShardIsNamed) {
  const IndexedFolder f(Map(kGoodMap));
  const auto file = WeightFile::Open(f.folder().path());
  ASSERT_TRUE(file.ok()) << file.error().message;
  ASSERT_EQ(truncate((f.folder() / "two.safetensors").c_str(), 3), 0);
  const Status status = file->CheckIntact();
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("two.safetensors"), std::string::npos);
}
TEST(ChangingFile, WrittenToWhileMappedIsSeen) {
  const TempFolder folder;
  const std::string path = folder.Write("m.gguf", LargeGguf());
  const auto file = WeightFile::Open(path);
  ASSERT_TRUE(file.ok());
  usleep(20000);  // file times move in steps of a few milliseconds
  std::ofstream(path, std::ios::binary | std::ios::app) << "more";
  const Status status = file->CheckIntact();
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("was written to while in use"), std::string::npos);
}
TEST(ChangingFile, ReplacedOrDeletedKeepsItsContents) {
  const TempFolder folder;
  const std::string path = folder.Write("m.gguf", LargeGguf());
  const auto file = WeightFile::Open(path);
  ASSERT_TRUE(file.ok());
  std::filesystem::rename(folder.Write("new.gguf", "short"), path);
  EXPECT_TRUE(file->CheckIntact().ok());
  std::filesystem::remove(path);
  EXPECT_TRUE(file->CheckIntact().ok());
  EXPECT_EQ(SumOfBytes(file->tensors()[0]), kFloats * 4);
}

// --- memory ---

#ifndef __SANITIZE_ADDRESS__
int64_t PeakKilobytes() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST(HostileMemory, LyingCountsTakeNone) {
  const TempFolder folder;
  const GgufBytes lies[] = {
      OneKey().Number(uint32_t{9}).Number(uint32_t{8}).Number(uint64_t{1} << 40).Raw(kPadding),
      GgufBytes().Header(65536, 32768),
      OneTensor({uint64_t{1} << 50}),
  };
  const int64_t before = PeakKilobytes();
  for (const GgufBytes& lie : lies) {
    EXPECT_NE(ErrorOf(folder.Write("m.gguf", lie.text())), "opened");
  }
  EXPECT_LT(PeakKilobytes() - before, 4096);
}
TEST(HostileMemory, TheMostExpensiveMetadataStaysUnderItsBound) {
  // Two million empty strings: 8 bytes each in the file, 32 in memory.
  const uint64_t count = 1 << 21;
  const TempFolder folder;
  const std::string path = folder.Write("m.gguf", OneKey()
                                                      .Number(uint32_t{9})
                                                      .Number(uint32_t{8})
                                                      .Number(count)
                                                      .Raw(std::string(count * 8, '\0'))
                                                      .text());
  const int64_t before = PeakKilobytes();
  EXPECT_EQ(ErrorOf(path), "opened");
  EXPECT_LT(PeakKilobytes() - before, (16 + 64 + 4) * 1024);
}
#endif

}  // namespace
}  // namespace hadal
