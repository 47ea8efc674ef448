#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/matmul_pack.h"
#include "tensor/half.h"
#include "tensor/quant.h"

namespace hadal {
namespace {

constexpr DType kTypes[] = {
    DType::kF32,  DType::kF16,  DType::kBF16,   DType::kF8E4M3, DType::kQ4_0, DType::kQ4_1,
    DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,   DType::kQ2_K,   DType::kQ3_K, DType::kQ4_K,
    DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL, DType::kIQ4_XS, DType::kMXFP4};

bool IsFloat(DType type) { return type <= DType::kF8E4M3; }

// Where the f16 scales of a block lie.
std::vector<int> ScaleOffsets(DType type) {
  switch (type) {
    case DType::kQ4_1:
    case DType::kQ5_1:
    case DType::kQ4_K:
    case DType::kQ5_K:
      return {0, 2};
    case DType::kQ2_K:
      return {80, 82};
    case DType::kQ3_K:
      return {108};
    case DType::kQ6_K:
      return {208};
    default:
      return {0};
  }
}

struct Weights {
  DType type = DType::kF32;
  int64_t rows = 0, cols = 0;
  std::vector<uint8_t> bytes;
  std::vector<float> fp8_scale;

  const float* scale() const { return fp8_scale.empty() ? nullptr : fp8_scale.data(); }
};

void PutFloat(DType type, float value, uint8_t* at) {
  if (type == DType::kF32) {
    std::memcpy(at, &value, 4);
  } else {
    const uint16_t half = type == DType::kF16 ? F32ToF16(value) : F32ToBF16(value);
    std::memcpy(at, &half, 2);
  }
}

// Random bits for codes and sub-scales, moderate scales of either sign (some 0, some denormal).
Weights MakeWeights(DType type, int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Weights w = {type, rows, cols, {}, {}};
  w.bytes.resize(static_cast<size_t>(rows * RowBytes(type, cols)));
  for (uint8_t& byte : w.bytes) byte = static_cast<uint8_t>(random());
  const auto scale = [&] {
    const uint32_t kind = random() % 16;
    return kind == 0 ? 0.0f : kind == 1 ? 3e-7f : kind == 2 ? -0.0f : 0.05f * normal(random);
  };
  if (type == DType::kF8E4M3) {
    for (uint8_t& byte : w.bytes) byte = (byte & 0x7f) == 0x7f ? 0x7e : byte;
    w.fp8_scale.resize(static_cast<size_t>((rows + 127) / 128 * ((cols + 127) / 128)));
    for (float& s : w.fp8_scale) s = scale();
  } else if (IsFloat(type)) {
    const int width = Info(type).bytes;
    for (int64_t i = 0; i < rows * cols; ++i) PutFloat(type, scale(), &w.bytes[i * width]);
  } else {
    const int block = Info(type).bytes;
    for (size_t at = 0; at < w.bytes.size(); at += block) {
      if (type == DType::kMXFP4) {
        w.bytes[at] = static_cast<uint8_t>(random() % 16 == 0 ? random() % 3 : 110 + random() % 30);
        continue;
      }
      for (const int offset : ScaleOffsets(type))
        PutFloat(DType::kF16, scale(), &w.bytes[at + offset]);
    }
  }
  return w;
}

std::vector<float> MakeRows(int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(rows * cols));
  for (float& v : x) v = normal(random);
  return x;
}

testing::AssertionResult SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return testing::AssertionFailure() << "sizes differ";
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) {
      return testing::AssertionFailure() << "element " << i << ": " << a[i] << " is not " << b[i];
    }
  }
  return testing::AssertionSuccess();
}

PackedMatrix PackOrDie(const Exec& exec, const Weights& w) {
  auto packed = PackedMatrix::Pack(exec, w.type, w.bytes.data(), w.rows, w.cols, w.scale());
  EXPECT_TRUE(packed.ok()) << (packed.ok() ? "" : packed.error().message);
  return packed.ok() ? std::move(packed).value() : PackedMatrix();
}

// y with a stride of its own and a guard after each row.
std::vector<float> Multiply(const Exec& exec, const std::vector<float>& x, int64_t m,
                            const PackedMatrix& w, std::span<const float> bias = {}) {
  const int64_t stride = w.rows() + 3;
  std::vector<float> padded(static_cast<size_t>(m * stride), 77.0f);
  MatMul(exec, {x.data(), m, w.cols()}, w, {padded.data(), m, w.rows(), stride}, bias);
  std::vector<float> y;
  for (int64_t r = 0; r < m; ++r) {
    const float* row = padded.data() + r * stride;
    y.insert(y.end(), row, row + w.rows());
    for (int64_t i = w.rows(); i < stride; ++i) EXPECT_EQ(row[i], 77.0f);
  }
  return y;
}

std::vector<float> Reference(const std::vector<float>& x, int64_t m, const Weights& w,
                             std::span<const float> bias = {}) {
  std::vector<float> y(static_cast<size_t>(m * w.rows));
  MatMulRef({x.data(), m, w.cols}, w.type, w.bytes.data(), w.scale(), w.rows, {y.data(), m, w.rows},
            bias);
  return y;
}

std::vector<int64_t> Columns(DType type) {
  if (IsFloat(type)) return {1, 7, 33, 96, 300, 576};
  if (Info(type).block == 256) return {256, 768};
  return {32, 96, 256, 576, 1056};
}

class EveryType : public testing::TestWithParam<DType> {};

INSTANTIATE_TEST_SUITE_P(MatMul, EveryType, testing::ValuesIn(kTypes),
                         [](const auto& info) { return std::string(Info(info.param).name); });

TEST_P(EveryType, EqualsReferenceOnEveryIsa) {
  for (const Isa isa : SupportedIsas()) {
    const Exec exec(2, isa);
    for (const int64_t n : {1, 15, 16, 17, 100}) {
      for (const int64_t k : Columns(GetParam())) {
        const Weights w = MakeWeights(GetParam(), n, k, static_cast<uint32_t>(n * 7 + k));
        const PackedMatrix packed = PackOrDie(exec, w);
        const std::vector<float> x = MakeRows(33, k, 5);
        const std::vector<float> want = Reference(x, 33, w);
        for (const int64_t m : {0, 1, 2, 3, 4, 5, 6, 7, 16, 32, 33}) {
          if (isa == Isa::kScalar && m > 3 && m != 33) continue;
          const std::vector<float> part(want.begin(), want.begin() + m * n);
          ASSERT_TRUE(SameBits(Multiply(exec, x, m, packed), part))
              << IsaName(isa) << " n " << n << " k " << k << " m " << m;
        }
      }
    }
  }
}

#if defined(__x86_64__) && !defined(__clang__)  // see CMakeLists.txt
TEST_P(EveryType, EqualsReferenceOnEmulatedAvx512) {
  if (SupportedIsas().size() == 1) GTEST_SKIP() << "the emulation needs AVX2 and FMA";
  const Exec exec(1, Isa::kScalar);
  for (const int64_t n : {16, 37}) {
    const int64_t k = IsFloat(GetParam()) ? 200 : 256;
    const Weights w = MakeWeights(GetParam(), n, k, 21);
    const PackedMatrix packed = PackOrDie(exec, w);
    const std::vector<float> x = MakeRows(3, k, 5);
    for (const int64_t m : {1, 3}) {
      std::vector<float> y(static_cast<size_t>(m * n));
      internal::MatMulWith(internal::EmulatedAvx512MatMulKernels(), exec, {x.data(), m, k}, packed,
                           {y.data(), m, n}, {});
      EXPECT_TRUE(SameBits(y, Reference(x, m, w))) << "n " << n << " m " << m;
    }
  }
}
#endif

TEST_P(EveryType, ThreadsDoNotMatter) {
  const Weights w = MakeWeights(GetParam(), 300, 768, 3);
  for (const int64_t m : {1, 20}) {
    const std::vector<float> x = MakeRows(m, w.cols, 9);
    const std::vector<float> want = Reference(x, m, w);
    for (const int threads : {1, 2, 3}) {
      const Exec exec(threads, SupportedIsas().back());
      EXPECT_TRUE(SameBits(Multiply(exec, x, m, PackOrDie(exec, w)), want)) << threads;
    }
  }
}

TEST_P(EveryType, RowEqualsDequantize) {
  const Exec exec(2, SupportedIsas().back());
  for (const int64_t n : {1, 40, 130}) {
    const Weights w = MakeWeights(GetParam(), n, 768, static_cast<uint32_t>(n));
    const PackedMatrix packed = PackOrDie(exec, w);
    EXPECT_GE(packed.bytes(), PackedMatrix::PackedBytes(w.type, n, w.cols));
    std::vector<float> all(static_cast<size_t>(n * w.cols));
    if (w.type == DType::kF8E4M3) {
      DequantizeFp8Block(w.bytes.data(), w.scale(), all.data(), n, w.cols);
    } else {
      Dequantize(w.type, w.bytes.data(), all.data(), n * w.cols);
    }
    for (int64_t r = 0; r < n; ++r) {
      std::vector<float> row(static_cast<size_t>(w.cols));
      packed.Row(r, row.data());
      const std::vector<float> want(all.begin() + r * w.cols, all.begin() + (r + 1) * w.cols);
      ASSERT_TRUE(SameBits(row, want)) << "row " << r;
    }
  }
}

TEST_P(EveryType, UnkindRows) {
  const int64_t k = 256, n = 50;
  const float huge = 3e38f, tiny = 1e-40f, inf = std::numeric_limits<float>::infinity();
  std::vector<std::vector<float>> rows;
  for (const float value : {0.0f, -0.0f, 1.0f, -1.0f, huge, -huge, tiny, 1e-30f, 7.9e-31f}) {
    rows.emplace_back(k, value);
  }
  rows.push_back(MakeRows(1, k, 1));
  rows.back()[40] = std::nanf("");
  rows.push_back(MakeRows(1, k, 2));
  rows.back()[70] = -inf;
  rows.push_back(MakeRows(1, k, 3));
  for (int64_t i = 0; i < k; i += 3) rows.back()[i] = i % 2 == 0 ? 1e30f : tiny;
  std::vector<float> x;
  for (const auto& row : rows) x.insert(x.end(), row.begin(), row.end());
  const auto m = static_cast<int64_t>(rows.size());
  for (const uint8_t fill : {0x00, 0xff, 0x80, 0x7f, 0x0f}) {
    Weights w = MakeWeights(GetParam(), n, k, 11);
    // Codes at both ends: everything but the scales.
    if (!IsFloat(w.type)) {
      const int block = Info(w.type).bytes;
      for (size_t at = 0; at < w.bytes.size(); at += block) {
        std::vector<uint8_t> kept(w.bytes.begin() + at, w.bytes.begin() + at + block);
        std::fill_n(w.bytes.begin() + at, block, fill);
        if (w.type == DType::kMXFP4) w.bytes[at] = kept[0];
        for (const int offset : ScaleOffsets(w.type)) {
          std::copy_n(kept.begin() + offset, w.type == DType::kMXFP4 ? 1 : 2,
                      w.bytes.begin() + static_cast<int64_t>(at) + offset);
        }
      }
    }
    const std::vector<float> want = Reference(x, m, w);
    for (const Isa isa : SupportedIsas()) {
      const Exec exec(1, isa);
      const PackedMatrix packed = PackOrDie(exec, w);
      EXPECT_TRUE(SameBits(Multiply(exec, x, m, packed), want)) << IsaName(isa);
      for (int64_t r = 0; r < m; ++r) {
        const std::vector<float> one(want.begin() + r * n, want.begin() + (r + 1) * n);
        EXPECT_TRUE(SameBits(Multiply(exec, rows[r], 1, packed), one)) << IsaName(isa);
      }
    }
    // What is not a number does not turn into one.
    EXPECT_TRUE(std::isnan(want[9 * n]));
  }
}

TEST_P(EveryType, BadWeightsAreNamed) {
  const Exec exec(2, SupportedIsas().back());
  Weights w = MakeWeights(GetParam(), 40, 512, 2);
  const int64_t row = 21, at = row * RowBytes(w.type, w.cols);
  switch (w.type) {
    case DType::kF32: {
      const float nan = std::nanf("");
      std::memcpy(&w.bytes[at + 4 * 500], &nan, 4);
      break;
    }
    case DType::kF8E4M3:
      w.bytes[at + 300] = 0xff;
      break;
    case DType::kMXFP4:
      w.bytes[at] = 255;
      w.bytes[at + 1] = 0x77;
      break;
    case DType::kBF16:
      w.bytes[at] = 0x80;
      w.bytes[at + 1] = 0x7f;
      break;
    case DType::kF16:
      w.bytes[at] = 0x00;
      w.bytes[at + 1] = 0x7c;
      break;
    default:
      for (const int offset : ScaleOffsets(w.type)) {
        w.bytes[at + offset] = 0x01;
        w.bytes[at + offset + 1] = 0xfc;
      }
  }
  const auto packed = PackedMatrix::Pack(exec, w.type, w.bytes.data(), w.rows, w.cols, w.scale());
  ASSERT_FALSE(packed.ok());
  EXPECT_EQ(packed.error().code, Code::kNumeric);
  EXPECT_NE(packed.error().message.find("row 21 "), std::string::npos) << packed.error().message;
}

TEST(MatMul, PackRefusesWhatItCannotHold) {
  const Exec exec(1, Isa::kScalar);
  const std::vector<uint8_t> bytes(4096);
  EXPECT_EQ(PackedMatrix::Pack(exec, DType::kQ4_0, bytes.data(), 2, 40).error().code,
            Code::kInvalid);
  EXPECT_EQ(PackedMatrix::Pack(exec, DType::kI32, bytes.data(), 2, 32).error().code,
            Code::kUnsupported);
  EXPECT_EQ(PackedMatrix::Pack(exec, DType::kF8E4M3, bytes.data(), 2, 32).error().code,
            Code::kInvalid);
}

TEST(MatMul, BiasIsAddedLast) {
  for (const Isa isa : SupportedIsas()) {
    const Exec exec(2, isa);
    for (const DType type : {DType::kQ4_K, DType::kF16}) {
      const Weights w = MakeWeights(type, 37, 256, 4);
      const std::vector<float> bias = MakeRows(1, 37, 8);
      for (const int64_t m : {1, 9}) {
        const std::vector<float> x = MakeRows(m, 256, 6);
        EXPECT_TRUE(
            SameBits(Multiply(exec, x, m, PackOrDie(exec, w), bias), Reference(x, m, w, bias)));
      }
    }
  }
}

TEST(MatMul, GroupEqualsSingles) {
  for (const Isa isa : SupportedIsas()) {
    const Exec exec(3, isa);
    const DType types[] = {DType::kQ4_0, DType::kF16, DType::kQ6_K, DType::kQ8_0};
    for (const int64_t m : {0, 1, 5, 40}) {
      const std::vector<float> x = MakeRows(m, 256, 3);
      std::vector<Weights> weights;
      std::vector<PackedMatrix> packed;
      std::vector<std::vector<float>> y;
      for (const DType type : types) {
        weights.push_back(MakeWeights(type, 20 + 30 * static_cast<int64_t>(packed.size()), 256, 5));
        packed.push_back(PackOrDie(exec, weights.back()));
        y.emplace_back(static_cast<size_t>(m * weights.back().rows));
      }
      std::vector<MatMulPart> parts;
      for (size_t i = 0; i < packed.size(); ++i) {
        parts.push_back({&packed[i], {y[i].data(), m, weights[i].rows}, {}});
      }
      MatMulGroup(exec, {x.data(), m, 256}, parts);
      for (size_t i = 0; i < packed.size(); ++i) {
        EXPECT_TRUE(SameBits(y[i], Reference(x, m, weights[i]))) << i;
      }
    }
  }
}

TEST(MatMul, JobsGatherRows) {
  for (const Isa isa : SupportedIsas()) {
    const Exec exec(2, isa);
    const int64_t k = 96;
    const std::vector<float> shared = MakeRows(12, k, 3), own = MakeRows(7, k, 4);
    const std::vector<std::vector<int32_t>> ids = {{3}, {11, 0, 5}, {}, {2, 2, 9, 1, 0, 4, 6, 8}};
    for (const DType type : {DType::kQ4_1, DType::kBF16}) {
      std::vector<Weights> weights;
      std::vector<PackedMatrix> packed;
      std::vector<std::vector<float>> y, want;
      std::vector<MatMulJob> jobs;
      packed.reserve(4);
      for (uint32_t i = 0; i < 4; ++i) {
        weights.push_back(MakeWeights(type, 30 + i, k, i));
        packed.push_back(PackOrDie(exec, weights.back()));
        std::vector<float> rows = own;
        if (!ids[i].empty()) {
          rows.clear();
          for (const int32_t id : ids[i]) {
            rows.insert(rows.end(), shared.begin() + id * k, shared.begin() + (id + 1) * k);
          }
        }
        const auto m = static_cast<int64_t>(rows.size()) / k;
        want.push_back(Reference(rows, m, weights.back()));
        y.emplace_back(want.back().size());
      }
      for (uint32_t i = 0; i < 4; ++i) {
        const std::vector<float>& x = ids[i].empty() ? own : shared;
        const auto m = static_cast<int64_t>(y[i].size()) / weights[i].rows;
        jobs.push_back({&packed[i],
                        {x.data(), static_cast<int64_t>(x.size()) / k, k},
                        ids[i],
                        {y[i].data(), m, weights[i].rows}});
      }
      MatMulJobs(exec, jobs);
      for (size_t i = 0; i < jobs.size(); ++i) EXPECT_TRUE(SameBits(y[i], want[i])) << i;
    }
  }
}

TEST(MatMul, SteadyStateTakesNoMemory) {
  const Exec exec(1, SupportedIsas().back());  // one worker: its scratch is taken at once
  const Weights w = MakeWeights(DType::kQ4_0, 64, 576, 1);
  const PackedMatrix packed = PackOrDie(exec, w);
  const std::vector<float> x = MakeRows(40, 576, 1);
  Multiply(exec, x, 40, packed);
  const size_t held = exec.shared().capacity() + exec.scratch(0).capacity();
  for (int i = 0; i < 5; ++i) Multiply(exec, x, 40, packed);
  EXPECT_EQ(exec.shared().capacity() + exec.scratch(0).capacity(), held);
}

}  // namespace
}  // namespace hadal
