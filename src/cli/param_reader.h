// Parameters out of either kind of file, as f32 in the Hugging Face layout; and the layouts and
// types that GGUF wants. What convert and quantize share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "formats/weight_file.h"
#include "model/config.h"

namespace hadal::cli {

// The values of one parameter, [rows, cols] as its spec states, rows of rotated heads in halves as
// Hugging Face has them for config.arch. Undoes FP8 block scales, GGUF's stacking of experts, its
// split of kv_b, and the order of rows that GGUF gives q and k of llama.
Result<std::vector<float>> ReadParam(const WeightFile& file, const ModelConfig& config,
                                     const ParamSpec& spec);

// Rows of each head: halves (a0 a1 .. b0 b1 ..) to pairs (a0 b0 a1 b1 ..). `heads` divides rows.
void HalvesToPairs(std::vector<float>& values, int64_t heads, int64_t rows);
void PairsToHalves(std::vector<float>& values, int64_t heads, int64_t rows);
// How many heads the rows of this parameter rotate in GGUF's order of pairs; 0 where both kinds of
// file agree.
int64_t PairedHeads(const ModelConfig& config, const ParamSpec& spec);

// The type to store a tensor in when `wanted` is asked for the whole file: vectors, norms and
// routers stay F32; embedding and head get Q6_K under the 4-bit types; a row that is not a multiple
// of 256 falls back from Q4_K to Q5_0 and from Q6_K to Q8_0, one that is not a multiple of 32 to
// F16 (the fallbacks of llama.cpp).
DType ChooseType(DType wanted, const std::string& gguf_name, const std::vector<int64_t>& shape);
// The types convert and quantize write; errors list them.
Result<DType> ParseType(const std::string& name);
// general.file_type of a file mostly of this type.
uint32_t GgufFileType(DType type);

// Encodes rows * cols values; rows are shared out over the pool.
void EncodeRows(ThreadPool& pool, DType type, const float* in, std::byte* out, int64_t rows,
                int64_t cols);

}  // namespace hadal::cli
