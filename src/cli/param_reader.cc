#include "cli/param_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/store.h"
#include "tensor/quant.h"

namespace hadal::cli {
namespace {

int64_t Rows(const ParamSpec& spec) {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < spec.shape.size(); ++i) rows *= spec.shape[i];
  return rows;
}

Error Wrong(const WeightFile& file, const std::string& name, const std::string& what) {
  return {Code::kCorrupt, fmt::format("{}: tensor {}: {}", file.path(), name, what)};
}

// `rows` rows from `first` on, of a tensor of `total` rows.
Result<std::vector<float>> ReadRows(const WeightFile& file, const TensorInfo& t, int64_t first,
                                    int64_t rows, int64_t total, int64_t cols) {
  if (t.rows() != total || t.cols() != cols) {
    return Wrong(file, t.name,
                 fmt::format("shape [{}], the configuration wants {} rows of {}",
                             fmt::join(t.shape, ","), total, cols));
  }
  if (!IsFloatLike(t.type)) {
    return Wrong(file, t.name, fmt::format("type {} holds no weights", Info(t.type).name));
  }
  std::vector<float> out(static_cast<size_t>(rows * cols));
  const std::byte* from = t.bytes.data() + first * RowBytes(t.type, cols);
  if (t.type != DType::kF8E4M3) {
    Dequantize(t.type, from, out.data(), rows * cols);
    return out;
  }
  const TensorInfo* scale = file.Find(t.name + "_scale_inv");
  const int64_t scale_rows = (rows + 127) / 128, scale_cols = (cols + 127) / 128;
  if (first != 0 || rows != total || scale == nullptr || scale->rows() != scale_rows ||
      scale->cols() != scale_cols || !IsFloatLike(scale->type)) {
    return Wrong(file, t.name, "F8_E4M3 without its block scales (_scale_inv) of 128x128");
  }
  std::vector<float> scales(static_cast<size_t>(scale_rows * scale_cols));
  Dequantize(scale->type, scale->bytes.data(), scales.data(), scale_rows * scale_cols);
  DequantizeFp8Block(reinterpret_cast<const uint8_t*>(from), scales.data(), out.data(), rows, cols);
  return out;
}

// kv_b [H * (nope + v), latent] from attn_k_b [H, latent, nope] and attn_v_b [H, v, latent].
Result<std::vector<float>> JoinLatent(const WeightFile& file, const ModelConfig& c,
                                      const ParamSpec& spec) {
  const std::string stem = spec.gguf_name.substr(0, spec.gguf_name.find("attn_kv_b"));
  const TensorInfo* k = file.Find(stem + "attn_k_b.weight");
  const TensorInfo* v = file.Find(stem + "attn_v_b.weight");
  if (k == nullptr || v == nullptr) return Wrong(file, spec.gguf_name, "missing");
  const auto keys = TRY(ReadRows(file, *k, 0, k->rows(), c.heads * c.latent, c.nope_dim));
  const auto values = TRY(ReadRows(file, *v, 0, v->rows(), c.heads * c.v_dim, c.latent));
  std::vector<float> out(static_cast<size_t>(c.heads * (c.nope_dim + c.v_dim) * c.latent));
  float* to = out.data();
  for (int64_t h = 0; h < c.heads; ++h) {
    const float* head = keys.data() + h * c.latent * c.nope_dim;
    for (int64_t r = 0; r < c.nope_dim; ++r) {
      for (int64_t l = 0; l < c.latent; ++l) *to++ = head[l * c.nope_dim + r];
    }
    to = std::copy_n(values.data() + h * c.v_dim * c.latent, c.v_dim * c.latent, to);
  }
  return out;
}

bool IsFloatType(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

bool EndsWith(const std::string& name, std::string_view tail) { return name.ends_with(tail); }

}  // namespace

int64_t PairedHeads(const ModelConfig& config, const ParamSpec& spec) {
  if (config.arch != Arch::kLlama && config.arch != Arch::kMixtral) return 0;
  if (spec.gguf_name.find(".attn_q.") != std::string::npos) return config.heads;
  if (spec.gguf_name.find(".attn_k.") != std::string::npos) return config.kv_heads;
  return 0;
}

void HalvesToPairs(std::vector<float>& values, int64_t heads, int64_t rows) {
  const int64_t cols = static_cast<int64_t>(values.size()) / rows, dim = rows / heads;
  std::vector<float> out(values.size());
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < dim; ++i) {
      const int64_t from = h * dim + (i % 2) * (dim / 2) + i / 2;
      std::copy_n(values.data() + from * cols, cols, out.data() + (h * dim + i) * cols);
    }
  }
  values = std::move(out);
}

void PairsToHalves(std::vector<float>& values, int64_t heads, int64_t rows) {
  const int64_t cols = static_cast<int64_t>(values.size()) / rows, dim = rows / heads;
  std::vector<float> out(values.size());
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < dim; ++i) {
      const int64_t to = h * dim + (i % 2) * (dim / 2) + i / 2;
      std::copy_n(values.data() + (h * dim + i) * cols, cols, out.data() + to * cols);
    }
  }
  values = std::move(out);
}

Result<std::vector<float>> ReadParam(const WeightFile& file, const ModelConfig& config,
                                     const ParamSpec& spec) {
  const bool gguf = file.kind() == WeightFile::Kind::kGguf;
  const bool vector = spec.shape.size() == 1;
  const int64_t rows = vector ? 1 : Rows(spec), cols = spec.shape.back();
  const std::string& name = gguf ? spec.gguf_name : spec.name;
  const TensorInfo* t = file.Find(name);
  if (t == nullptr && spec.gguf_name.find("attn_kv_b.weight") != std::string::npos && gguf) {
    return JoinLatent(file, config, spec);
  }
  if (t == nullptr)
    return Wrong(file, name, "missing: do configuration and weights belong together?");
  const bool stacked = gguf && spec.expert >= 0;
  const int64_t first = stacked ? spec.expert * rows : 0;
  const int64_t total = stacked ? config.gate.experts * rows : rows;
  auto values = TRY(ReadRows(file, *t, first, rows, total, cols));
  if (const int64_t heads = PairedHeads(config, spec); gguf && heads > 0) {
    PairsToHalves(values, heads, vector ? cols : rows);
  }
  return values;
}

DType ChooseType(DType wanted, const std::string& name, const std::vector<int64_t>& shape) {
  const bool router = name.find("ffn_gate_inp") != std::string::npos;
  if (shape.size() < 2 || router || EndsWith(name, "_norm.weight")) return DType::kF32;
  if (IsFloatType(wanted)) return wanted;
  const bool ends = name == "token_embd.weight" || name == "output.weight";
  if (ends && wanted != DType::kQ8_0) wanted = DType::kQ6_K;
  const int64_t cols = shape.back();
  if (cols % 256 != 0) {
    if (wanted == DType::kQ4_K) wanted = DType::kQ5_0;
    if (wanted == DType::kQ6_K) wanted = DType::kQ8_0;
  }
  return cols % Info(wanted).block == 0 ? wanted : DType::kF16;
}

Result<DType> ParseType(const std::string& name) {
  const auto type = DTypeFromName(name);
  for (const DType known : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0,
                            DType::kQ4_K, DType::kQ6_K}) {
    if (type == known) return known;
  }
  return Error{Code::kInvalid, fmt::format("type {} cannot be written: F32, F16, BF16, Q8_0, Q4_0, "
                                           "Q4_K and Q6_K can",
                                           Quoted(name))};
}

uint32_t GgufFileType(DType type) {
  switch (type) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ8_0:
      return 7;
    case DType::kQ4_K:
      return 14;  // "small": one type throughout
    case DType::kQ6_K:
      return 18;
    case DType::kBF16:
      return 32;
    default:
      return 1024;  // guessed
  }
}

void EncodeRows(ThreadPool& pool, DType type, const float* in, std::byte* out, int64_t rows,
                int64_t cols) {
  const int64_t row_bytes = RowBytes(type, cols);
  const int64_t step = std::max<int64_t>(1, 16384 / cols);
  pool.For((rows + step - 1) / step, [&](int64_t task, int) {
    const int64_t end = std::min(rows, (task + 1) * step);
    for (int64_t r = task * step; r < end; ++r) {
      Quantize(type, in + r * cols, out + r * row_bytes, cols);
    }
  });
}

}  // namespace hadal::cli
