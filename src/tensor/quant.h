// The public definitions of the quantised block types (GGUF), as plain loops. This is the
// reference that kernels are tested against, the decoder that packing uses, and the encoder of
// `hadal quantize` and `hadal convert`.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/dtype.h"

namespace hadal {

// out[0..n) = the f32 values of n elements stored at `in`; n a multiple of the type's block.
// Bit-equal to the format's definition. Every type with IsFloatLike(type).
void Dequantize(DType type, const void* in, float* out, int64_t n);

// True for the types Quantize writes: F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K.
bool CanQuantize(DType type);

// Stores n values as `type` at `out`, n a multiple of the type's block. The float types round to
// nearest even; Q8_0 is bit-equal to llama.cpp's; the others search their scales for the least
// squared error, weighted by magnitude and by `importance` (empty or n weights >= 0). A value that
// is not finite spoils its own block and no other; scales beyond f16 saturate.
void Quantize(DType type, const float* in, void* out, int64_t n,
              std::span<const float> importance = {});

// FP8 with 128x128 block scales as in DeepSeek checkpoints: out[r,c] = e4m3(in[r,c]) *
// scale[r/128, c/128]; ragged edges have partial blocks. in, out: [rows, cols] contiguous; scale:
// [ceil(rows/128), ceil(cols/128)].
void DequantizeFp8Block(const uint8_t* in, const float* scale, float* out, int64_t rows,
                        int64_t cols);

}  // namespace hadal
