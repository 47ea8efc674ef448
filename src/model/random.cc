// Random parameters for benchmarks and tests: quick to make at any size, the same for a seed.
#include <algorithm>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "model/internal_source.h"
#include "tensor/quant.h"

namespace hadal::internal {
namespace {

constexpr int64_t kPoolValues = int64_t{1} << 18;  // quantising them is most of the work

// Normal values are drawn and quantised once, into a pool of short runs; a matrix is a random
// sequence of these runs. Making 700M weights then costs a copy, not a quantisation, and rows still
// differ from each other.
class RandomSource : public ParamSource {
 public:
  RandomSource(const Exec* exec, DType type, uint64_t seed)
      : exec_(exec), type_(type), seed_(seed) {}

  bool Has(const ParamSpec& spec) const override {
    return spec.name.find("k_b_proj") == std::string::npos;
  }
  Status Done(const ParamSpec&) override { return {}; }

  Result<StoredMatrix> Get(const ParamSpec& spec) override {
    ++stream_;
    StoredMatrix m;
    m.cols = spec.shape.back();
    m.rows = 1;
    for (size_t i = 0; i + 1 < spec.shape.size(); ++i) m.rows *= spec.shape[i];
    const std::string_view name = spec.name;
    const bool vector = spec.shape.size() == 1;
    const bool router = name.ends_with(".gate.weight");
    m.type = vector || router ? DType::kF32 : Fitting(m.cols);
    if (exec_ == nullptr) return m;
    bytes_.resize(static_cast<size_t>(m.rows * RowBytes(m.type, m.cols)));
    m.data = bytes_.data();
    if (vector) {
      FillVector(name.find("norm") != std::string_view::npos ? 1.0f : 0.0f, m);
    } else {
      FillMatrix(m);
    }
    return m;
  }

 private:
  DType Fitting(int64_t cols) const {
    if (cols % Info(type_).block == 0) return type_;
    return cols % 32 == 0 ? DType::kQ8_0 : DType::kF32;
  }

  void FillVector(float mean, const StoredMatrix& m) {
    Rng rng(seed_, stream_);
    std::vector<float> values(static_cast<size_t>(m.cols));
    for (float& v : values) v = mean + 0.02f * static_cast<float>(rng.NextNormal());
    Quantize(DType::kF32, values.data(), bytes_.data(), m.cols);
  }

  void FillMatrix(const StoredMatrix& m) {
    const int64_t block = Info(m.type).block;
    const int64_t run = m.cols % 32 == 0 ? std::max<int64_t>(block, 32) : block;
    const std::vector<std::byte>& pool = Pool(m.type, run);
    const auto runs = static_cast<uint32_t>(kPoolValues / run);
    const int64_t run_bytes = RowBytes(m.type, run);
    const int64_t row_bytes = RowBytes(m.type, m.cols);
    exec_->pool().For(m.rows, [&](int64_t row, int) {
      Rng rng(seed_ + stream_, static_cast<uint64_t>(row));
      std::byte* out = bytes_.data() + row * row_bytes;
      for (int64_t at = 0; at < row_bytes; at += run_bytes) {
        const auto pick = static_cast<int64_t>(rng.Next32() % runs);
        std::copy_n(pool.data() + pick * run_bytes, run_bytes, out + at);
      }
    });
  }

  const std::vector<std::byte>& Pool(DType type, int64_t run) {
    std::vector<std::byte>& pool = pools_[{type, run}];
    if (!pool.empty()) return pool;
    Rng rng(seed_, 0);
    std::vector<float> values(static_cast<size_t>(kPoolValues));
    for (float& v : values) v = 0.02f * static_cast<float>(rng.NextNormal());
    pool.resize(static_cast<size_t>(kPoolValues / run * RowBytes(type, run)));
    Quantize(type, values.data(), pool.data(), kPoolValues / run * run);
    return pool;
  }

  const Exec* exec_;
  DType type_;
  uint64_t seed_, stream_ = 0;
  std::vector<std::byte> bytes_;
  std::map<std::pair<DType, int64_t>, std::vector<std::byte>> pools_;  // by type and run length
};

}  // namespace

std::unique_ptr<ParamSource> NewRandomSource(const Exec* exec, DType type, uint64_t seed) {
  return std::make_unique<RandomSource>(exec, type, seed);
}

}  // namespace hadal::internal
