// Optimizer steps on one tensor. Element-wise parts are the same on every ISA and thread count.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/exec.h"
#include "kernels/gemm.h"
#include "tensor/view.h"

namespace hadal {

// A running average of the size of its tensor: float, or bf16 (uint16_t) rounded to nearest even
// after each step.
enum class MomentType : uint8_t { kF32, kBF16 };
inline int64_t MomentBytes(MomentType type) { return type == MomentType::kF32 ? 4 : 2; }
struct Moments {
  void* data = nullptr;
  MomentType type = MomentType::kF32;
};

struct AdamWOptions {
  float lr = 0;
  float beta1 = 0.9f, beta2 = 0.95f, eps = 1e-8f, weight_decay = 0.1f;
  int64_t step = 1;      // from 1
  float grad_scale = 1;  // g is multiplied by this first (clipping, averaging)
};
// Decoupled decay (arXiv:1711.05101), in the order of torch.optim.AdamW:
//   w *= 1 - lr decay;  m += (1 - beta1)(g - m);  v = beta2 v + (1 - beta2) g^2
//   w -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
// The scalars are computed in f64 and rounded once.
void AdamW(const Exec& exec, std::span<float> w, std::span<const float> g, Moments m, Moments v,
           const AdamWOptions& options);

// The sum of squares in f64: blocks of 4096 elements, 8 lanes in a block, blocks in order. Tensors
// cut at multiples of 4096 give the same blocks, so their sums can be put together bit for bit from
// NormBlocks.
inline constexpr int64_t kNormBlock = 4096;
double SquaredNorm(const Exec& exec, std::span<const float> g);
// blocks[i] = the sum of squares of block i; size ceil(n / 4096).
void NormBlocks(const Exec& exec, std::span<const float> g, std::span<double> blocks);

struct MuonOptions {
  enum class Scale : uint8_t {
    kSpectral,  // sqrt(max(1, rows / cols))
    kMatchRms,  // 0.2 sqrt(max(rows, cols)): the update's RMS is that of AdamW
  };
  float lr = 0;
  float momentum = 0.95f, weight_decay = 0.1f;
  bool nesterov = true;
  int steps = 5;
  Scale scale = Scale::kSpectral;
  ComputeType type = ComputeType::kF32;  // of the Newton-Schulz products: kF32 or kBF16
  float grad_scale = 1;
};
// A matrix and its state, not empty: w, g, buf [rows, cols]; buf is zero at first.
struct MuonJob {
  View2<float> w;
  View2<const float> g;
  View2<float> buf;
  MuonOptions options;  // the same steps and type in all jobs
};
// Momentum made orthogonal by Newton-Schulz (Jordan et al. 2024, coefficients 3.4445, -4.7750,
// 2.0315), for each job:
//   buf += (1 - momentum)(g - buf);  u = nesterov ? g + momentum (buf - g) : buf
//   X = u / (|u| + 1e-7), `steps` times X = a X + (b A + c A^2) X with A = X X^T (the smaller side)
//   w = w (1 - lr decay) - lr scale X
void Muon(const Exec& exec, std::span<const MuonJob> jobs);

}  // namespace hadal
