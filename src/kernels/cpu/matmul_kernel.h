// The seam between matrix products and their micro-kernels: layouts, and a table of functions an
// instruction set fills in. Included by files compiled for one instruction set, so it holds plain
// structs and constants only: an inline function here could be emitted with instructions that the
// running machine lacks and then be chosen by the linker for everyone.
#pragma once

#include <cstdint>

namespace hadal::internal {

inline constexpr int kTile = 16;      // rows of W in a tile, one lane each
inline constexpr int kMaxRows = 8;    // rows of x a micro-kernel may take at once
inline constexpr int kMaxDirect = 4;  // the most of them a block kernel decodes for in registers
inline constexpr int kBlockFormats = 13;  // kQ4_0 .. kMXFP4 in the order of DType
inline constexpr int kFloatFormats = 4;   // kF32 .. kF8E4M3
inline constexpr int kFp8Run = 128;       // elements of k under one scale of an FP8 matrix
inline constexpr uint32_t kTinyBits = 0x0d800000u;  // 2^-100: an x block below it counts as zero

// 32 quantised elements of a row of x: one cache line. The sums are kept in the multiples that the
// offsets of the weight codes ask for.
struct alignas(64) XBlock {
  int8_t q[32];
  float scale;        // max|x| / 127
  float sum;          // scale * float(sum of q)
  float half_sum[2];  // the same over q[0..16) and q[16..32)
  int32_t sum8;       // 8 * sum of q
  int32_t half32[2];  // 32 * sum of q[0..16), of q[16..32)
  int32_t zero;
};

// How a block type lies in a tile. A tile is a run of super blocks; a super block is
//   d: 16 f16, dmin: 16 f16 when `min`         (super > 1 only)
//   `super` blocks of 32 k:
//     super == 1   d: 16 f16 (bf16 for `bf16_scale`), m: 16 f16 when `min`
//     super > 1    sc: 16 bytes for each run of `sub` k, m: the same when `min`; padded to 32
//     low codes    64 bytes for each u < bits == 8 ? 8 : 4. Dword i belongs to row i. bits == 8:
//                  its bytes are the codes of k = 4u .. 4u+3. Otherwise their low nibbles are
//                  those of k = 4u .. 4u+3, their high nibbles those of k = 16+4u .. 16+4u+3
//     high bits    bits 5: 64 bytes, bit g of a byte is bit 4 of the code of group g (k = 4g+byte)
//                  bits 6: 128 bytes, bits 2(g%4).. of byte 64(g/4)+.. are bits 4..5 of group g
// value = scale * (lut(code) - offset) + min;  scale = d or d * sc, min = m or -(dmin * m).
struct BlockFormat {
  enum Lut : uint8_t { kNone, kIq4, kMxfp4 };
  int bits = 4;
  int offset = 0;
  int max_code = 15;  // after lut
  Lut lut = kNone;
  bool is_signed = false;  // codes are s8 (after lut)
  bool min = false;
  bool bf16_scale = false;
  bool signed_sc = false;
  int sc_offset = 0;  // subtracted from sc when packing
  int sub = 32;       // k per scale
  int super = 1;      // blocks of 32 per super block

  constexpr int subs() const { return 32 / sub; }
  constexpr int super_head() const { return super > 1 ? (min ? 64 : 32) : 0; }
  constexpr int block_head() const {
    if (super == 1) return min ? 64 : 32;
    return (kTile * subs() * (min ? 2 : 1) + 31) / 32 * 32;
  }
  constexpr int code_bytes() const { return 64 * bits; }
  constexpr int block_bytes() const { return block_head() + code_bytes(); }
  constexpr int super_bytes() const { return super_head() + super * block_bytes(); }
  // A block decoded to one byte a code: codes, scales in f32, minima in f32.
  constexpr int panel_bytes() const { return 512 + 64 * subs() * (min ? 2 : 1); }
};

inline constexpr BlockFormat kFormats[kBlockFormats] = {
    {.offset = 8},                                        // Q4_0
    {.min = true},                                        // Q4_1
    {.bits = 5, .offset = 16, .max_code = 31},            // Q5_0
    {.bits = 5, .max_code = 31, .min = true},             // Q5_1
    {.bits = 8, .is_signed = true},                       // Q8_0
    {.max_code = 3, .min = true, .sub = 16, .super = 8},  // Q2_K
    {.offset = 4,
     .max_code = 7,
     .signed_sc = true,
     .sc_offset = 32,
     .sub = 16,
     .super = 8},                                                                         // Q3_K
    {.min = true, .super = 8},                                                            // Q4_K
    {.bits = 5, .max_code = 31, .min = true, .super = 8},                                 // Q5_K
    {.bits = 6, .offset = 32, .max_code = 63, .signed_sc = true, .sub = 16, .super = 8},  // Q6_K
    {.lut = BlockFormat::kIq4, .is_signed = true},                                        // IQ4_NL
    {.lut = BlockFormat::kIq4,
     .is_signed = true,
     .signed_sc = true,
     .sc_offset = 32,
     .super = 8},                                                                    // IQ4_XS
    {.offset = 12, .max_code = 24, .lut = BlockFormat::kMxfp4, .bf16_scale = true},  // MXFP4
};

// The 16 values a 4-bit index stands for; MXFP4's are moved up by 12 to be unsigned.
alignas(16) inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                      1,    13,   25,  38,  53,  69,  89,  113};
alignas(16) inline constexpr int8_t kMxfp4Values[16] = {12, 13, 14, 15, 16, 18, 20, 24,
                                                        12, 11, 10, 9,  8,  6,  4,  0};

// Kernels add to acc[rows][16], which the caller has set to 0 or to the sums of earlier k; those
// that see the whole of k write y[rows][16].
struct BlockKernels {
  // Rows 1..direct_rows, whole k.
  void (*direct[kMaxDirect + 1])(const uint8_t* tile, int64_t blocks, const XBlock* const* x,
                                 float* y);
  // Decodes blocks to panel_bytes() each, for `panel` to read once per group of rows.
  void (*decode)(const uint8_t* tile, int64_t blocks, uint8_t* panel);
  void (*panel[kMaxRows + 1])(const uint8_t* panel, int64_t blocks, const XBlock* const* x,
                              float* acc);
};

// A tile of floats, [K][16] in the stored width, and its FP8 scales (one per kFp8Run) or null.
struct FloatTile {
  const uint8_t* data;
  const float* scale;
};

struct FloatKernels {
  // One row of x times 4 tiles, whole k; y[4][16].
  void (*quad)(const FloatTile* tiles, int64_t k, const float* x, float* y);
  // Rows 1..float_rows times one tile.
  void (*direct[kMaxRows + 1])(const FloatTile& tile, int64_t k, const float* const* x, float* acc);
  // What becomes of y: the sum, y and the sum, or the chain of sums that y began.
  enum Chain { kStore, kAdd, kGoOn };
  // The same over the whole of k, kStore or kAdd: row r of y, 16 wide, is at y + r * stride.
  void (*whole[2][kMaxRows + 1])(const FloatTile& tile, int64_t k, const float* const* x, float* y,
                                 int64_t stride);
  // The same for rows of x that lie turned: element i of row r at x[i * pitch + r]. f32 only.
  void (*turned[3][kMaxRows + 1])(const FloatTile& tile, int64_t k, const float* x, int64_t pitch,
                                  float* y, int64_t stride);
  // Rows of x for `turned`, with a pitch of float_rows, from k rows of `cols` elements: row c of x
  // begins at to[c / float_rows * panel + c % float_rows]. f32 only.
  void (*turn)(const float* const* from, int64_t k, int64_t cols, float* to, int64_t panel);
  // panel[k][16] = the tile in f32 (k0 a multiple of kFp8Run).
  void (*widen)(const FloatTile& tile, int64_t k0, int64_t k, float* panel);
};

// Products of bf16 by instructions for them. An element, of x and of a tile, is a pair in 32 bits:
// k = 2i in the low half, 2i + 1 in the high one; a chain adds the high product before the low one.
// An odd k's last fellow is 0. Denormals count as 0, before rounding and after each addition.
struct PairKernels {
  FloatKernels products;  // direct, whole, turned and turn are there
  // pairs[i] = x[2i] and x[2i + 1].
  void (*round)(const float* x, int64_t n, float* pairs);
  // Pairs of two rows, 16 at to, 16 at to + step and so on; odd may be null. Pads with zeros.
  void (*zip)(const float* even, const float* odd, int64_t n, float* to, int64_t step);
  // A tile of at most 16 rows of n elements: [ceil(n / 2)][16].
  void (*transpose)(const float* const* rows, int64_t count, int64_t n, float* tile);
};

struct MatMulKernels {
  int direct_rows;  // rows of x up to which block tiles are decoded in registers
  int block_rows;   // rows of x the panel kernels of unsigned block types take at best
  int signed_rows;  // the same for signed ones
  int float_rows;
  void (*quantise)(const float* x, int64_t blocks, XBlock* out);
  BlockKernels block[kBlockFormats];
  FloatKernels floats[kFloatFormats];
};

const MatMulKernels& ScalarMatMulKernels();
const MatMulKernels& Avx2MatMulKernels();
const MatMulKernels& Avx512MatMulKernels();
// For machines with AVX-512 BF16.
const PairKernels& Avx512PairKernels();
// The AVX-512 kernels on a machine with AVX2 only, through SIMDe; part of the tests.
const MatMulKernels& EmulatedAvx512MatMulKernels();

}  // namespace hadal::internal
