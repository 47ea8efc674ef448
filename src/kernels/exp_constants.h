// Constants of exp, shared by the definition and the vector bodies. With x = n ln 2 + r,
// |r| <= ln 2 / 2: exp(x) = 2^n (1 + r + r^2 (c2 + c3 r + ... + c6 r^4)), the c from a minimax fit
// of the relative error (2^-28 before rounding).
#pragma once

namespace hadal::internal {

inline constexpr float kExpLimit = 88.0f;
inline constexpr float kLog2E = 0x1.715476p+0f;
inline constexpr float kRoundShift = 0x1.8p+23f;
inline constexpr float kLn2High = 0x1.62e4p-1f;  // few bits, so n * kLn2High is exact
inline constexpr float kLn2Low = 0x1.7f7d1cp-20f;
inline constexpr float kExp2 = 0x1.fffffcp-2f;
inline constexpr float kExp3 = 0x1.555492p-3f;
inline constexpr float kExp4 = 0x1.5558f2p-5f;
inline constexpr float kExp5 = 0x1.123a2p-7f;
inline constexpr float kExp6 = 0x1.6a23cep-10f;

}  // namespace hadal::internal
