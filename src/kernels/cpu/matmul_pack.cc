#include "kernels/cpu/matmul_pack.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "tensor/half.h"

namespace hadal::internal {
namespace {

uint16_t Load16(const uint8_t* p) {
  uint16_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

uint32_t Load32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

void Store16(uint8_t* p, uint16_t v) { std::memcpy(p, &v, sizeof v); }
void Store32(uint8_t* p, uint32_t v) { std::memcpy(p, &v, sizeof v); }

// The 6-bit scale and minimum j of eight in the 12 bytes of Q4_K and Q5_K.
void ScaleMin6(const uint8_t* s, int j, uint8_t& sc, uint8_t& m) {
  if (j < 4) {
    sc = s[j] & 63;
    m = s[j + 4] & 63;
  } else {
    sc = static_cast<uint8_t>((s[j + 4] & 15) | (s[j - 4] >> 6 << 4));
    m = static_cast<uint8_t>((s[j + 4] >> 4) | (s[j] >> 6 << 4));
  }
}

// The 16 six-bit scales of Q3_K: low nibbles in bytes 0..7, high pairs of bits in 8..11.
int Scale3(const uint8_t* s, int j) {
  const int low = j < 8 ? s[j] & 15 : s[j - 8] >> 4;
  const int high = (s[8 + j % 4] >> (2 * (j / 4))) & 3;
  return low | (high << 4);
}

void SplitNibbles(const uint8_t* qs, uint8_t* code) {
  for (int i = 0; i < 16; ++i) {
    code[i] = qs[i] & 15;
    code[i + 16] = qs[i] >> 4;
  }
}

void SetScale(RowBlock& b, uint16_t d) {
  b.d = d;
  b.scale[0] = b.scale[1] = F16ToF32(d);
}

void SetMin(RowBlock& b, uint16_t m) {
  b.dmin = m;
  b.min[0] = b.min[1] = F16ToF32(m);
}

void AddFifthBits(uint32_t bits, uint8_t* code) {
  for (int i = 0; i < 32; ++i) code[i] |= static_cast<uint8_t>(((bits >> i) & 1) << 4);
}

// Scales of K types: products rounded once, the minimum negated.
void SetK(RowBlock& b, uint16_t d, uint16_t dmin, const int* sc, const int* m) {
  b.d = d;
  b.dmin = dmin;
  for (int s = 0; s < 2; ++s) {
    b.sc[s] = static_cast<uint8_t>(sc[s]);
    b.m[s] = static_cast<uint8_t>(m[s]);
    b.scale[s] = F16ToF32(d) * static_cast<float>(sc[s]);
    b.min[s] = -(F16ToF32(dmin) * static_cast<float>(m[s]));
  }
}

void SplitQ2K(const uint8_t* in, RowBlock* out) {
  for (int b = 0; b < 8; ++b) {
    const uint8_t* q = in + 16 + b / 4 * 32;
    for (int i = 0; i < 32; ++i) out[b].code[i] = (q[i] >> (b % 4 * 2)) & 3;
    const int sc[2] = {in[2 * b] & 15, in[2 * b + 1] & 15};
    const int m[2] = {in[2 * b] >> 4, in[2 * b + 1] >> 4};
    SetK(out[b], Load16(in + 80), Load16(in + 82), sc, m);
  }
}

void SplitQ3K(const uint8_t* in, RowBlock* out) {
  for (int b = 0; b < 8; ++b) {
    const uint8_t* q = in + 32 + b / 4 * 32;
    for (int i = 0; i < 32; ++i) {
      out[b].code[i] =
          static_cast<uint8_t>(((q[i] >> (b % 4 * 2)) & 3) | (((in[i] >> b) & 1) << 2));
    }
    const int sc[2] = {Scale3(in + 96, 2 * b) - 32, Scale3(in + 96, 2 * b + 1) - 32};
    const int m[2] = {0, 0};
    SetK(out[b], Load16(in + 108), 0, sc, m);
  }
}

void SplitQ45K(bool five, const uint8_t* in, RowBlock* out) {
  const uint8_t* qh = in + 16;
  const uint8_t* ql = five ? in + 48 : in + 16;
  for (int b = 0; b < 8; ++b) {
    for (int i = 0; i < 32; ++i) {
      int code = (ql[b / 2 * 32 + i] >> (b % 2 * 4)) & 15;
      if (five) code |= ((qh[i] >> b) & 1) << 4;
      out[b].code[i] = static_cast<uint8_t>(code);
    }
    uint8_t sc, m;
    ScaleMin6(in + 4, b, sc, m);
    const int scs[2] = {sc, sc}, ms[2] = {m, m};
    SetK(out[b], Load16(in), Load16(in + 2), scs, ms);
  }
}

void SplitQ6K(const uint8_t* in, RowBlock* out) {
  for (int b = 0; b < 8; ++b) {
    // Each half of 128: block 0, 1 in the low nibbles of its first and second 32 bytes, 2, 3 in
    // the high ones.
    const uint8_t* ql = in + b / 4 * 64 + b % 2 * 32;
    const uint8_t* qh = in + 128 + b / 4 * 32;
    const int shift = b % 4 / 2 * 4;
    for (int i = 0; i < 32; ++i) {
      out[b].code[i] =
          static_cast<uint8_t>(((ql[i] >> shift) & 15) | (((qh[i] >> (b % 4 * 2)) & 3) << 4));
    }
    const auto* scales = reinterpret_cast<const int8_t*>(in + 192);
    const int sc[2] = {scales[2 * b], scales[2 * b + 1]}, m[2] = {0, 0};
    SetK(out[b], Load16(in + 208), 0, sc, m);
  }
}

void SplitIq4Xs(const uint8_t* in, RowBlock* out) {
  const int high = Load16(in + 2);
  for (int b = 0; b < 8; ++b) {
    SplitNibbles(in + 8 + 16 * b, out[b].code);
    const int sc = ((in[4 + b / 2] >> (b % 2 * 4)) & 15) | (((high >> (2 * b)) & 3) << 4);
    const int scs[2] = {sc - 32, sc - 32}, m[2] = {0, 0};
    SetK(out[b], Load16(in), 0, scs, m);
  }
}

void SplitMxfp4(const uint8_t* in, RowBlock* out) {
  SplitNibbles(in + 1, out->code);
  // Half of 2^(e - 127), because the table holds doubled values; exact in bf16, denormals too.
  const int e = in[0];
  out->d = static_cast<uint16_t>(e < 2 ? 0x20 << e : (e - 1) << 7);
  out->scale[0] = out->scale[1] = BF16ToF32(out->d);
}

bool BadHalf(uint16_t h) { return (h & 0x7c00) == 0x7c00; }

bool BadBlock(const BlockFormat& format, const RowBlock& b) {
  if (format.bf16_scale) {
    for (const uint8_t code : b.code) {
      if (!std::isfinite(b.scale[0] * static_cast<float>(CodeValue(format, code)))) return true;
    }
    return false;
  }
  return BadHalf(b.d) || (format.min && BadHalf(b.dmin));
}

// Four codes at a time, as the dword of their group.
void PutCodes(const BlockFormat& format, const uint8_t* code, int lane, uint8_t* low) {
  uint32_t group[8];
  std::memcpy(group, code, sizeof group);
  low += 4 * lane;
  if (format.bits == 8) {
    for (int g = 0; g < 8; ++g) Store32(low + 64 * g, group[g]);
    return;
  }
  for (int u = 0; u < 4; ++u) {
    Store32(low + 64 * u, (group[u] & 0x0f0f0f0fu) | (group[u + 4] & 0x0f0f0f0fu) << 4);
  }
  if (format.bits == 5) {
    uint32_t high = 0;
    for (int g = 0; g < 8; ++g) high |= ((group[g] >> 4) & 0x01010101u) << g;
    Store32(low + 256, high);
  }
  if (format.bits == 6) {
    for (int half = 0; half < 2; ++half) {
      uint32_t high = 0;
      for (int g = 0; g < 4; ++g) high |= ((group[4 * half + g] >> 4) & 0x03030303u) << (2 * g);
      Store32(low + 256 + 64 * half, high);
    }
  }
}

// Writes super block `blocks` of a row into its lane.
void PutSuper(const BlockFormat& format, const RowBlock* blocks, int lane, uint8_t* out) {
  uint8_t* block = out + format.super_head();
  if (format.super > 1) {
    Store16(out + 2 * lane, blocks[0].d);
    if (format.min) Store16(out + 32 + 2 * lane, blocks[0].dmin);
  }
  for (int b = 0; b < format.super; ++b, block += format.block_bytes()) {
    if (format.super == 1) {
      Store16(block + 2 * lane, blocks[b].d);
      if (format.min) Store16(block + 32 + 2 * lane, blocks[b].dmin);
    } else {
      for (int s = 0; s < format.subs(); ++s) {
        block[kTile * s + lane] = blocks[b].sc[s];
        if (format.min) block[kTile * (format.subs() + s) + lane] = blocks[b].m[s];
      }
    }
    PutCodes(format, blocks[b].code, lane, block + format.block_head());
  }
}

bool PackSplitRow(DType type, const uint8_t* in, int64_t cols, int lane, uint8_t* tile) {
  const BlockFormat& format = FormatOf(type);
  const DTypeInfo& info = Info(type);
  bool bad = false;
  for (int64_t k = 0; k < cols; k += info.block, in += info.bytes, tile += format.super_bytes()) {
    RowBlock blocks[8];
    SplitBlock(type, in, blocks);
    for (int b = 0; b < format.super; ++b) bad |= BadBlock(format, blocks[b]);
    PutSuper(format, blocks, lane, tile);
  }
  return bad;
}

// Blocks of f16 scales (one, or two with a minimum) before codes that already lie as a tile wants
// them: dword u of the nibbles, or dword g of the bytes.
template <int halves, int dwords>
bool PackPlainRow(const uint8_t* in, int64_t blocks, int lane, uint8_t* tile) {
  constexpr int kHead = 32 * halves;
  bool bad = false;
  for (int64_t b = 0; b < blocks; ++b) {
    for (int h = 0; h < halves; ++h) {
      const uint16_t half = Load16(in + 2 * h);
      bad |= BadHalf(half);
      Store16(tile + 32 * h + 2 * lane, half);
    }
    for (int u = 0; u < dwords; ++u) {
      Store32(tile + kHead + 64 * u + 4 * lane, Load32(in + 2 * halves + 4 * u));
    }
    in += 2 * halves + 4 * dwords;
    tile += kHead + 64 * dwords;
  }
  return bad;
}

// mask: the exponent bits, all set in what is not finite.
template <typename Word>
bool PackWords(const uint8_t* in, int64_t count, int lane, Word mask, uint8_t* tile) {
  bool bad = false;
  for (int64_t k = 0; k < count; ++k) {
    Word v;
    std::memcpy(&v, in + k * static_cast<int64_t>(sizeof v), sizeof v);
    bad |= static_cast<Word>(v & mask) == mask;
    std::memcpy(tile + (kTile * k + lane) * static_cast<int64_t>(sizeof v), &v, sizeof v);
  }
  return bad;
}

// Elements k0 .. k0+count of one row, within one run of an FP8 scale.
bool PackFloats(DType type, const uint8_t* in, int64_t k0, int64_t count, int lane,
                const float* scale, uint8_t* tile) {
  const int64_t width = Info(type).bytes;
  in += k0 * width;
  tile += k0 * kTile * width;
  switch (type) {
    case DType::kF32:
      return PackWords<uint32_t>(in, count, lane, 0x7f800000u, tile);
    case DType::kF16:
      return PackWords<uint16_t>(in, count, lane, 0x7c00, tile);
    case DType::kBF16:
      return PackWords<uint16_t>(in, count, lane, 0x7f80, tile);
    default: {
      // 0x7f is NaN; with a sane scale no other code can overflow.
      const float s = scale[k0 / kFp8Run];
      bool bad = PackWords<uint8_t>(in, count, lane, 0x7f, tile);
      if (!std::isfinite(448.0f * s)) {
        for (int64_t k = 0; k < count; ++k) bad |= !std::isfinite(E4M3ToF32(in[k]) * s);
      }
      return bad;
    }
  }
}

bool PackBlockRow(DType type, const uint8_t* in, int64_t cols, int lane, uint8_t* tile) {
  switch (type) {
    case DType::kQ4_0:
    case DType::kIQ4_NL:
      return PackPlainRow<1, 4>(in, cols / 32, lane, tile);
    case DType::kQ4_1:
      return PackPlainRow<2, 4>(in, cols / 32, lane, tile);
    case DType::kQ8_0:
      return PackPlainRow<1, 8>(in, cols / 32, lane, tile);
    default:
      return PackSplitRow(type, in, cols, lane, tile);
  }
}

float FloatAt(DType type, const uint8_t* tile, int64_t k, int lane, const float* scale) {
  const int64_t at = kTile * k + lane;
  switch (type) {
    case DType::kF32:
      return std::bit_cast<float>(Load32(tile + 4 * at));
    case DType::kF16:
      return F16ToF32(Load16(tile + 2 * at));
    case DType::kBF16:
      return BF16ToF32(Load16(tile + 2 * at));
    default:
      return E4M3ToF32(tile[at]) * scale[k / kFp8Run];
  }
}

uint8_t CodeAt(const BlockFormat& format, const uint8_t* low, int lane, int k) {
  const int g = k / 4, byte = 4 * lane + k % 4;
  if (format.bits == 8) return low[64 * g + byte];
  int code = (low[64 * (g % 4) + byte] >> (g / 4 * 4)) & 15;
  if (format.bits == 5) code |= ((low[256 + byte] >> g) & 1) << 4;
  if (format.bits == 6) code |= ((low[256 + 64 * (g / 4) + byte] >> (g % 4 * 2)) & 3) << 4;
  return static_cast<uint8_t>(code);
}

void UnpackBlockRow(const PackedMatrix::Impl& matrix, const uint8_t* tile, int lane, float* out) {
  const BlockFormat& format = FormatOf(matrix.type);
  for (int64_t k = 0; k < matrix.cols; tile += format.super_bytes()) {
    const uint8_t* block = tile + format.super_head();
    for (int b = 0; b < format.super; ++b, k += 32, block += format.block_bytes()) {
      const uint8_t* head = format.super > 1 ? tile : block;
      const uint16_t d = Load16(head + 2 * lane);
      for (int i = 0; i < 32; ++i) {
        const int s = i / format.sub;
        float scale = format.bf16_scale ? BF16ToF32(d) : F16ToF32(d);
        float min = format.min ? F16ToF32(Load16(head + 32 + 2 * lane)) : 0.0f;
        if (format.super > 1) {
          const uint8_t sc = block[kTile * s + lane];
          scale *= static_cast<float>(format.signed_sc ? static_cast<int8_t>(sc) : int{sc});
          if (format.min) min *= -static_cast<float>(block[kTile * (format.subs() + s) + lane]);
        }
        const uint8_t code = CodeAt(format, block + format.block_head(), lane, i);
        const float value = scale * static_cast<float>(CodeValue(format, code));
        out[k + i] = format.min ? value + min : value;
      }
    }
  }
}

}  // namespace

int CodeValue(const BlockFormat& format, uint8_t code) {
  if (format.lut == BlockFormat::kIq4) return kIq4Values[code];
  if (format.lut == BlockFormat::kMxfp4) return kMxfp4Values[code] - format.offset;
  if (format.is_signed) return static_cast<int8_t>(code);
  return code - format.offset;
}

void SplitBlock(DType type, const uint8_t* in, RowBlock* out) {
  switch (type) {
    case DType::kQ4_0:
    case DType::kIQ4_NL:
      SetScale(*out, Load16(in));
      return SplitNibbles(in + 2, out->code);
    case DType::kQ4_1:
      SetScale(*out, Load16(in));
      SetMin(*out, Load16(in + 2));
      return SplitNibbles(in + 4, out->code);
    case DType::kQ5_0:
      SetScale(*out, Load16(in));
      SplitNibbles(in + 6, out->code);
      return AddFifthBits(Load32(in + 2), out->code);
    case DType::kQ5_1:
      SetScale(*out, Load16(in));
      SetMin(*out, Load16(in + 2));
      SplitNibbles(in + 8, out->code);
      return AddFifthBits(Load32(in + 4), out->code);
    case DType::kQ8_0:
      SetScale(*out, Load16(in));
      std::memcpy(out->code, in + 2, 32);
      return;
    case DType::kQ2_K:
      return SplitQ2K(in, out);
    case DType::kQ3_K:
      return SplitQ3K(in, out);
    case DType::kQ4_K:
      return SplitQ45K(false, in, out);
    case DType::kQ5_K:
      return SplitQ45K(true, in, out);
    case DType::kQ6_K:
      return SplitQ6K(in, out);
    case DType::kIQ4_XS:
      return SplitIq4Xs(in, out);
    case DType::kMXFP4:
      return SplitMxfp4(in, out);
    default:
      CHECK(false);
  }
}

int64_t TileBytes(DType type, int64_t cols) {
  if (IsBlockType(type)) {
    const BlockFormat& format = FormatOf(type);
    return cols / (32 * format.super) * format.super_bytes();
  }
  return (cols * kTile * Info(type).bytes + 63) / 64 * 64;
}

int64_t PackTile(const PackedMatrix::Impl& matrix, const uint8_t* data, int64_t row, int count,
                 uint8_t* tile) {
  // Columns go in runs, so that the part of the tile that sixteen rows scatter into stays in L1.
  const bool block = IsBlockType(matrix.type);
  const int64_t run = block ? 512 : kFp8Run;
  const int64_t row_bytes = RowBytes(matrix.type, matrix.cols);
  const float* scale = matrix.scale(row / kTile);
  bool bad[kTile] = {};
  for (int64_t k = 0; k < matrix.cols; k += run) {
    const int64_t columns = std::min(run, matrix.cols - k);
    for (int lane = 0; lane < count; ++lane) {
      const uint8_t* in = data + (row + lane) * row_bytes;
      bad[lane] |= block ? PackBlockRow(matrix.type, in + RowBytes(matrix.type, k), columns, lane,
                                        tile + TileBytes(matrix.type, k))
                         : PackFloats(matrix.type, in, k, columns, lane, scale, tile);
    }
  }
  const bool* first = std::find(bad, bad + count, true);
  return first == bad + count ? -1 : row + (first - bad);
}

void UnpackRow(const PackedMatrix::Impl& matrix, int64_t row, float* out) {
  const uint8_t* tile = matrix.tile(row / kTile);
  const int lane = static_cast<int>(row % kTile);
  if (IsBlockType(matrix.type)) return UnpackBlockRow(matrix, tile, lane, out);
  const float* scale = matrix.scale(row / kTile);
  for (int64_t k = 0; k < matrix.cols; ++k) {
    out[k] = FloatAt(matrix.type, tile, k, lane, scale);
  }
}

}  // namespace hadal::internal
