// The bodies of an instruction set, and how rows are handed out.
#pragma once

#include <algorithm>

#include "kernels/cpu/attention_table.h"
#include "kernels/cpu/matmul_kernel.h"
#include "kernels/cpu/ops_table.h"
#include "kernels/cpu/train_table.h"
#include "kernels/exec.h"

namespace hadal::internal {

inline const OpsTable& Ops(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return kOpsAvx512;
  if (isa == Isa::kAvx2) return kOpsAvx2;
#endif
  static_cast<void>(isa);
  return kOpsScalar;
}

inline const TrainTable& Train(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return kTrainAvx512;
  if (isa == Isa::kAvx2) return kTrainAvx2;
#endif
  static_cast<void>(isa);
  return kTrainScalar;
}

inline const AttentionTable& Attention(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return kAttentionAvx512;
  if (isa == Isa::kAvx2) return kAttentionAvx2;
#endif
  static_cast<void>(isa);
  return kAttentionScalar;
}

inline const MatMulKernels& Products(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return Avx512MatMulKernels();
  if (isa == Isa::kAvx2) return Avx2MatMulKernels();
#endif
  static_cast<void>(isa);
  return ScalarMatMulKernels();
}

// The f32 product kernel of up to kMaxRows rows.
inline const FloatKernels& F32Products(Isa isa) { return Products(isa).floats[0]; }

// Products of bf16 pairs, or null where the machine has no instructions for them.
inline const PairKernels* PairProducts(Isa isa) {
#if defined(__x86_64__)
  static const bool has_bf16 = __builtin_cpu_supports("avx512bf16");
  if (isa == Isa::kAvx512 && has_bf16) return &Avx512PairKernels();
#endif
  static_cast<void>(isa);
  return nullptr;
}

inline constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Calls body(begin, end, worker) for runs of about 8192 elements' worth of rows.
template <typename Body>
void ForRowRuns(const Exec& exec, int64_t rows, int64_t cols, const Body& body) {
  constexpr int64_t kSerialElements = 16384;  // fewer cost less than waking the threads
  constexpr int64_t kTaskElements = 8192;
  if (rows * cols < kSerialElements) {
    body(int64_t{0}, rows, 0);
    return;
  }
  const int64_t step = std::max<int64_t>(1, kTaskElements / std::max<int64_t>(1, cols));
  exec.pool().For(CeilDiv(rows, step), [&](int64_t task, int worker) {
    body(task * step, std::min(rows, (task + 1) * step), worker);
  });
}

}  // namespace hadal::internal
