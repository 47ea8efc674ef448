// Checks shared by the readers of config.json and of GGUF metadata.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/config.h"

namespace hadal::internal {

// Largest sizes accepted from a file: far above any published model, low enough that every product
// of two of them fits in 64 bits.
inline constexpr int64_t kMaxLayers = 4096;
inline constexpr int64_t kMaxWidth = int64_t{1} << 20;
inline constexpr int64_t kMaxVocab = int64_t{1} << 24;
inline constexpr int64_t kMaxContext = int64_t{1} << 28;
inline constexpr int64_t kMaxHeads = int64_t{1} << 14;
inline constexpr int64_t kMaxHeadDim = int64_t{1} << 14;
inline constexpr int64_t kMaxFfn = int64_t{1} << 22;
inline constexpr int64_t kMaxExperts = int64_t{1} << 14;
inline constexpr int64_t kMaxExpertMatrices = int64_t{1} << 18;  // layers * experts

// RMSNorm of the two latents of MLA: the published code fixes it, whatever rms_norm_eps says.
inline constexpr float kLatentNormEps = 1e-6f;

std::string Quoted(std::string_view text);
Error ConfigError(std::string_view key, std::string_view value, std::string_view wanted);
// Relations between sizes that each lie within their own bounds.
Status ValidateConfig(const ModelConfig& config);
// YaRN's temperature: 1 for factor <= 1, else 0.1 * mscale * ln(factor) + 1.
double YarnMscale(double factor, double mscale);

}  // namespace hadal::internal
