// Byte layouts of the GGUF block types, private to tensor/quant.cc and tensor/quantize.cc.
// Every member is a byte array, so a block may lie at any address and its size is its layout.
// Numbers are little-endian; the host is taken to be so too.
//
// In all 4- and 5-bit types of 32 elements, byte j of qs holds element j in its low half and
// element j + 16 in its high half. x[i] below is the value of element i, s its sub-block.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "tensor/half.h"

namespace hadal::internal {

static_assert(std::endian::native == std::endian::little);

inline constexpr int kBlock = 32;
inline constexpr int kSuper = 256;

struct BlockQ4_0 {  // x = d * (q - 8)
  uint8_t d[2];     // f16
  uint8_t qs[16];
};
struct BlockQ4_1 {  // x = d * q + m
  uint8_t d[2];
  uint8_t m[2];
  uint8_t qs[16];
};
struct BlockQ5_0 {  // x = d * (q - 16); bit i of qh is the fifth bit of element i
  uint8_t d[2];
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ5_1 {  // x = d * q + m
  uint8_t d[2];
  uint8_t m[2];
  uint8_t qh[4];
  uint8_t qs[16];
};
struct BlockQ8_0 {  // x = d * q
  uint8_t d[2];
  int8_t qs[32];
};

// Super-blocks of 256. Q2_K and Q3_K: sub-blocks of 16; bits 2k..2k+1 of byte 32 h + l of qs belong
// to element 128 h + 32 k + l.
struct BlockQ2_K {  // x = (d * (scales[s] & 15)) * q - dmin * (scales[s] >> 4)
  uint8_t scales[16];
  uint8_t qs[64];
  uint8_t d[2];
  uint8_t dmin[2];
};
struct BlockQ3_K {    // x = (d * (scale[s] - 32)) * (q - 4); scale: 6 bits, see UnpackScalesQ3
  uint8_t hmask[32];  // bit 4 h + k of byte l: the third bit of element 128 h + 32 k + l
  uint8_t qs[64];
  uint8_t scales[12];
  uint8_t d[2];
};
// Q4_K and Q5_K: sub-blocks of 32; byte 32 g + l of qs holds element 64 g + l in its low half and
// element 64 g + 32 + l in its high half.
struct BlockQ4_K {  // x = (d * scale[s]) * q - dmin * min[s]; 6 bits each, see UnpackScalesQ4
  uint8_t d[2];
  uint8_t dmin[2];
  uint8_t scales[12];
  uint8_t qs[128];
};
struct BlockQ5_K {
  uint8_t d[2];
  uint8_t dmin[2];
  uint8_t scales[12];
  uint8_t qh[32];  // bit s of byte l: the fifth bit of element 32 s + l
  uint8_t qs[128];
};
// Sub-blocks of 16. Element 128 h + 32 k + l has its low four bits in byte 64 h + 32 (k & 1) + l
// of ql (low half for k < 2) and its high two bits at 2k of byte 32 h + l of qh.
struct BlockQ6_K {  // x = (d * scales[s]) * (q - 32)
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint8_t d[2];
};
struct BlockIQ4_NL {  // x = d * kIq4Values[q]
  uint8_t d[2];
  uint8_t qs[16];
};
struct BlockIQ4_XS {  // x = (d * (scale[s] - 32)) * kIq4Values[q]; eight sub-blocks of 32
  uint8_t d[2];
  uint8_t scales_h[2];  // bits 2s..2s+1: the high two bits of scale s
  uint8_t scales_l[4];  // the low four, two to a byte
  uint8_t qs[128];      // 16 bytes a sub-block, as in the types of 32
};
struct BlockMXFP4 {  // x = 2^(e - 128) * kFp4Doubled[q]
  uint8_t e;
  uint8_t qs[16];
};

inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};
// Twice the values of E2M1, so that they are whole numbers.
inline constexpr int8_t kFp4Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

inline uint16_t LoadU16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline uint32_t LoadU32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline float LoadF16(const uint8_t* p) { return F16ToF32(LoadU16(p)); }
inline void StoreU16(uint8_t* p, uint16_t v) { std::memcpy(p, &v, sizeof v); }
inline void StoreU32(uint8_t* p, uint32_t v) { std::memcpy(p, &v, sizeof v); }

// Eight scales and eight mins of 6 bits in 12 bytes: the first four of each lie in the low six
// bits of bytes 0..3 and 4..7; of the others the low four bits share bytes 8..11 and the high two
// sit on top of bytes 0..7.
inline void UnpackScalesQ4(const uint8_t* packed, uint8_t scale[8], uint8_t min[8]) {
  for (int s = 0; s < 4; ++s) {
    scale[s] = packed[s] & 63;
    min[s] = packed[s + 4] & 63;
    scale[s + 4] = (packed[s + 8] & 15) | (packed[s] >> 6 << 4);
    min[s + 4] = (packed[s + 8] >> 4) | (packed[s + 4] >> 6 << 4);
  }
}
inline void PackScalesQ4(const uint8_t scale[8], const uint8_t min[8], uint8_t* packed) {
  for (int s = 0; s < 4; ++s) {
    packed[s] = static_cast<uint8_t>(scale[s] | scale[s + 4] >> 4 << 6);
    packed[s + 4] = static_cast<uint8_t>(min[s] | min[s + 4] >> 4 << 6);
    packed[s + 8] = static_cast<uint8_t>((scale[s + 4] & 15) | (min[s + 4] & 15) << 4);
  }
}

// Sixteen scales of 6 bits, offset 32, in 12 bytes: low four bits of scale s in byte s % 8 (high
// half for s >= 8), high two bits at 2 (s / 4) of byte 8 + s % 4.
inline void UnpackScalesQ3(const uint8_t* packed, int8_t scale[16]) {
  for (int s = 0; s < 16; ++s) {
    const int low = packed[s % 8] >> (s < 8 ? 0 : 4) & 15;
    const int high = packed[8 + s % 4] >> (2 * (s / 4)) & 3;
    scale[s] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

}  // namespace hadal::internal
