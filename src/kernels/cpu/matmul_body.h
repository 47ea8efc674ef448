// The micro-kernels, written once over a layer S of 16-lane primitives. An instruction set's file
// defines S in an anonymous namespace under its target pragma and includes this after it, so every
// function below is private to that file and compiled for that instruction set.
//
// The file also defines HADAL_INLINE (how helpers are inlined) and HADAL_UNROLL (before loops over
// rows). Kernels are made for as many rows as S::kDirectRows, kBlockRows, kSignedRows, kFloatRows
// say.
//
// S provides F (16 f32), I (16 i32), B (64 bytes), D (an accumulator of byte dots) and
//   Load/Store/Set/Zero/Add/Mul/Fma/FmaSet for F, AddI/SubI/ShlI/SarI/SetI/ToF for I,
//   LoadB, Low4, High4, Lut, Plane<bit, width> for B, Broadcast4, DotFirst/Dot/Sum,
//   SignedFirst/SignedDot, F16/BF16/U8/S8 widening loads, StoreB, Fp8.
#pragma once

#include "kernels/cpu/matmul_kernel.h"

namespace hadal::internal {
namespace {

// How many byte dots may be summed in i16 before widening; layers with i32 sums ignore it.
constexpr int ChainLimit(int max_code) {
  int chain = 1;
  while (chain < 8 && 2 * chain * 2 * 127 * max_code <= 32767) chain *= 2;
  return chain;
}

template <class S, BlockFormat F>
struct PackedSource {
  const uint8_t* super;
  const uint8_t* block;

  template <int g>
  HADAL_INLINE typename S::B Codes() const {
    const uint8_t* low = block + F.block_head();
    if constexpr (F.bits == 8) {
      return S::LoadB(low + 64 * g);
    } else {
      const typename S::B both = S::LoadB(low + 64 * (g % 4));
      const typename S::B nibbles = g < 4 ? S::Low4(both) : S::High4(both);
      if constexpr (F.lut == BlockFormat::kIq4) return S::Lut(kIq4Values, nibbles);
      if constexpr (F.lut == BlockFormat::kMxfp4) return S::Lut(kMxfp4Values, nibbles);
      if constexpr (F.bits == 5) {
        return S::OrB(nibbles, S::template Plane<g, 0x10>(S::LoadB(low + 256)));
      }
      if constexpr (F.bits == 6) {
        return S::OrB(nibbles,
                      S::template Plane<2 * (g % 4), 0x30>(S::LoadB(low + 256 + 64 * (g / 4))));
      }
      return nibbles;
    }
  }
  HADAL_INLINE typename S::F Scale(int s) const {
    if constexpr (F.bf16_scale) return S::LoadBf16(block);
    if constexpr (F.super == 1) return S::LoadF16(block);
    const typename S::I sc =
        F.signed_sc ? S::LoadS8(block + kTile * s) : S::LoadU8(block + kTile * s);
    return S::Mul(S::LoadF16(super), S::ToF(sc));
  }
  // The addend min, negative of what K types store.
  HADAL_INLINE typename S::F Min(int s) const {
    if constexpr (F.super == 1) return S::LoadF16(block + 32);
    const typename S::I m = S::LoadU8(block + kTile * (F.subs() + s));
    return S::Neg(S::Mul(S::LoadF16(super + 32), S::ToF(m)));
  }
};

template <class S, BlockFormat F>
struct PanelSource {
  const uint8_t* block;

  template <int g>
  HADAL_INLINE typename S::B Codes() const {
    return S::LoadB(block + 64 * g);
  }
  HADAL_INLINE typename S::F Scale(int s) const {
    return S::Load(reinterpret_cast<const float*>(block + 512 + 64 * s));
  }
  HADAL_INLINE typename S::F Min(int s) const {
    return S::Load(reinterpret_cast<const float*>(block + 512 + 64 * (F.subs() + s)));
  }
};

// offset * (sum of q) over sub-block s, from the multiples that XBlock holds.
template <class S, BlockFormat F, int offset>
HADAL_INLINE typename S::I Correction(const XBlock& x, int s) {
  if constexpr (F.sub == 16) {
    static_assert(offset == 32 || offset == 4);
    const typename S::I base = S::SetI(x.half32[s]);
    if constexpr (offset == 32) return base;
    return S::template SarI<3>(base);
  } else {
    static_assert(offset == 8 || offset == 12 || offset == 16 || offset == 128);
    const typename S::I base = S::SetI(x.sum8);
    if constexpr (offset == 8) return base;
    if constexpr (offset == 12) return S::AddI(base, S::template SarI<1>(base));
    if constexpr (offset == 16) return S::AddI(base, base);
    return S::template ShlI<4>(base);
  }
}

// Group g of four k: adds its products for M rows to d.
template <class S, BlockFormat F, bool first, int g, int M, class Source>
HADAL_INLINE void Group(const Source& source, const XBlock* const* x, int64_t b, typename S::D* d) {
  const typename S::B codes = source.template Codes<g>();
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) {
    const auto q = S::Broadcast4(x[m][b].q + 4 * g);
    d[m] = first ? S::DotFirst(codes, q) : S::Dot(d[m], codes, q);
  }
}

// The j-th group of sub-block s. Neighbours in the order of a block of 32 share a load of nibbles.
constexpr int GroupAt(int sub, int s, int j) { return sub == 16 ? 4 * s + j : j / 2 + j % 2 * 4; }

// Chain c of groups whose sums fit S::D, then widened into dot.
template <class S, BlockFormat F, int s, int c, int chain, int M, class Source>
HADAL_INLINE void Chain(const Source& source, const XBlock* const* x, int64_t b,
                        typename S::I* dot) {
  typename S::D d[M];
  Group<S, F, true, GroupAt(F.sub, s, c * chain + 0), M>(source, x, b, d);
  if constexpr (chain > 1)
    Group<S, F, false, GroupAt(F.sub, s, c * chain + 1 % chain), M>(source, x, b, d);
  if constexpr (chain > 2) {
    Group<S, F, false, GroupAt(F.sub, s, c * chain + 2 % chain), M>(source, x, b, d);
    Group<S, F, false, GroupAt(F.sub, s, c * chain + 3 % chain), M>(source, x, b, d);
  }
  if constexpr (chain > 4) {
    Group<S, F, false, GroupAt(F.sub, s, c * chain + 4 % chain), M>(source, x, b, d);
    Group<S, F, false, GroupAt(F.sub, s, c * chain + 5 % chain), M>(source, x, b, d);
    Group<S, F, false, GroupAt(F.sub, s, c * chain + 6 % chain), M>(source, x, b, d);
    Group<S, F, false, GroupAt(F.sub, s, c * chain + 7 % chain), M>(source, x, b, d);
  }
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) {
    const typename S::I sum = S::Sum(d[m]);
    dot[m] = c == 0 ? sum : S::AddI(dot[m], sum);
  }
}

template <class S, int g, int M, class Source>
HADAL_INLINE void SignedGroup(const Source& source, const XBlock* const* x, int64_t b,
                              typename S::I* dot) {
  const typename S::Signed codes = S::PrepareSigned(source.template Codes<g>());
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) {
    const auto q = S::Broadcast4(x[m][b].q + 4 * g);
    dot[m] = g == 0 ? S::SignedFirst(codes, q) : S::SignedDot(dot[m], codes, q);
  }
}

template <class S, BlockFormat F, int s, int M, class Source>
HADAL_INLINE void SubBlock(const Source& source, const XBlock* const* x, int64_t b,
                           typename S::F* acc) {
  typename S::I dot[M];
  if constexpr (F.is_signed) {
    SignedGroup<S, 0, M>(source, x, b, dot);
    SignedGroup<S, 4, M>(source, x, b, dot);
    SignedGroup<S, 1, M>(source, x, b, dot);
    SignedGroup<S, 5, M>(source, x, b, dot);
    SignedGroup<S, 2, M>(source, x, b, dot);
    SignedGroup<S, 6, M>(source, x, b, dot);
    SignedGroup<S, 3, M>(source, x, b, dot);
    SignedGroup<S, 7, M>(source, x, b, dot);
  } else {
    constexpr int kGroups = F.sub / 4;
    constexpr int kLimit = S::kWideSums ? 8 : ChainLimit(F.max_code);
    constexpr int kChain = kLimit < kGroups ? kLimit : kGroups;
    Chain<S, F, s, 0, kChain, M>(source, x, b, dot);
    if constexpr (kGroups / kChain > 1) Chain<S, F, s, 1, kChain, M>(source, x, b, dot);
    if constexpr (kGroups / kChain > 2) {
      Chain<S, F, s, 2, kChain, M>(source, x, b, dot);
      Chain<S, F, s, 3, kChain, M>(source, x, b, dot);
    }
  }
  constexpr int kOffset = F.is_signed ? S::kSignedOffset : F.offset;
  const typename S::F scale = source.Scale(s);
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) {
    typename S::I sum = dot[m];
    if constexpr (kOffset != 0) {
      sum = S::SubI(sum, Correction<S, F, kOffset>(x[m][b], s));
    }
    acc[m] = S::Fma(S::Mul(scale, S::Set(x[m][b].scale)), S::ToF(sum), acc[m]);
  }
  if constexpr (F.min) {
    const typename S::F min = source.Min(s);
    HADAL_UNROLL
    for (int m = 0; m < M; ++m) {
      const float x_sum = F.sub == 16 ? x[m][b].half_sum[s] : x[m][b].sum;
      acc[m] = S::Fma(min, S::Set(x_sum), acc[m]);
    }
  }
}

template <class S, BlockFormat F, int M>
void DirectBlocks(const uint8_t* tile, int64_t blocks, const XBlock* const* x_rows, float* y) {
  typename S::F acc[M];
  const XBlock* x[M];
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) {
    acc[m] = S::Zero();
    x[m] = x_rows[m];
  }
  for (int64_t b = 0; b < blocks;) {
    PackedSource<S, F> source{tile, tile + F.super_head()};
    for (int i = 0; i < F.super; ++i, ++b, source.block += F.block_bytes()) {
      // The hardware keeps to 4 KiB pages and falls behind on one stream; every line is asked for.
      for (int line = 0; line < F.block_bytes(); line += 64) S::Prefetch(source.block + line);
      SubBlock<S, F, 0, M>(source, x, b, acc);
      if constexpr (F.subs() == 2) SubBlock<S, F, 1, M>(source, x, b, acc);
    }
    tile += F.super_bytes();
  }
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) S::Store(y + kTile * m, acc[m]);
}

template <class S, BlockFormat F, int M>
void PanelBlocks(const uint8_t* panel, int64_t blocks, const XBlock* const* x_rows,
                 float* acc_out) {
  typename S::F acc[M];
  const XBlock* x[M];
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) {
    acc[m] = S::Load(acc_out + kTile * m);
    x[m] = x_rows[m];
  }
  PanelSource<S, F> source{panel};
  for (int64_t b = 0; b < blocks; ++b, source.block += F.panel_bytes()) {
    SubBlock<S, F, 0, M>(source, x, b, acc);
    if constexpr (F.subs() == 2) SubBlock<S, F, 1, M>(source, x, b, acc);
  }
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) S::Store(acc_out + kTile * m, acc[m]);
}

template <class S, BlockFormat F>
void DecodeBlocks(const uint8_t* tile, int64_t blocks, uint8_t* panel) {
  for (int64_t b = 0; b < blocks;) {
    PackedSource<S, F> source{tile, tile + F.super_head()};
    for (int i = 0; i < F.super; ++i, ++b, source.block += F.block_bytes()) {
      S::StoreB(panel + 0, source.template Codes<0>());
      S::StoreB(panel + 256, source.template Codes<4>());
      S::StoreB(panel + 64, source.template Codes<1>());
      S::StoreB(panel + 320, source.template Codes<5>());
      S::StoreB(panel + 128, source.template Codes<2>());
      S::StoreB(panel + 384, source.template Codes<6>());
      S::StoreB(panel + 192, source.template Codes<3>());
      S::StoreB(panel + 448, source.template Codes<7>());
      float* scales = reinterpret_cast<float*>(panel + 512);
      for (int s = 0; s < F.subs(); ++s) {
        S::Store(scales + kTile * s, source.Scale(s));
        if constexpr (F.min) S::Store(scales + kTile * (F.subs() + s), source.Min(s));
      }
      panel += F.panel_bytes();
    }
    tile += F.super_bytes();
  }
}

// What the panel kernel of a format depends on; formats that agree share the kernel.
constexpr BlockFormat PanelFormat(BlockFormat f) {
  return {.offset = f.offset,
          .max_code = f.max_code < 15 ? 15 : f.max_code,
          .is_signed = f.is_signed,
          .min = f.min,
          .sub = f.sub};
}

template <class S, BlockFormat F, int M>
constexpr void SetBlockKernels(BlockKernels& kernels) {
  constexpr BlockFormat P = PanelFormat(F);
  if constexpr (M <= S::kDirectRows) kernels.direct[M] = DirectBlocks<S, F, M>;
  if constexpr (M <= (F.is_signed ? S::kSignedRows : S::kBlockRows)) {
    kernels.panel[M] = PanelBlocks<S, P, M>;
  }
  if constexpr (M > 1) SetBlockKernels<S, F, M - 1>(kernels);
}

template <class S, BlockFormat F>
constexpr BlockKernels MakeBlockKernels() {
  BlockKernels kernels = {.direct = {}, .decode = DecodeBlocks<S, F>, .panel = {}};
  SetBlockKernels<S, F, kMaxRows>(kernels);
  return kernels;
}

enum class Wide { kF32, kF16, kBf16, kFp8 };

template <Wide W>
constexpr int kWidth = W == Wide::kF32   ? 4
                       : W == Wide::kFp8 ? 1
                                         : 2;

template <class S, Wide W>
HADAL_INLINE typename S::F LoadWide(const uint8_t* p, typename S::F scale) {
  if constexpr (W == Wide::kF32) return S::Load(reinterpret_cast<const float*>(p));
  if constexpr (W == Wide::kF16) return S::LoadF16(p);
  if constexpr (W == Wide::kBf16) return S::LoadBf16(p);
  return S::Mul(S::LoadFp8(p), scale);
}

// The run of k that shares a scale; without scales all of it.
template <Wide W>
HADAL_INLINE int64_t RunEnd(int64_t k, int64_t end) {
  if constexpr (W != Wide::kFp8) return end;
  const int64_t next = (k / kFp8Run + 1) * kFp8Run;
  return next < end ? next : end;
}

template <class S, Wide W, int T>
void SingleRow(const FloatTile* tiles, int64_t k, const float* x, float* y) {
  typename S::F acc[T];
  HADAL_UNROLL
  for (int t = 0; t < T; ++t) acc[t] = S::Zero();
  for (int64_t i = 0; i < k;) {
    typename S::F scale[T];
    HADAL_UNROLL
    for (int t = 0; t < T; ++t) {
      scale[t] = W == Wide::kFp8 ? S::Set(tiles[t].scale[i / kFp8Run]) : S::Zero();
    }
    const uint8_t* w[T];
    HADAL_UNROLL
    for (int t = 0; t < T; ++t) w[t] = tiles[t].data;
    for (const int64_t end = RunEnd<W>(i, k); i < end; ++i) {
      const typename S::F xi = S::Set(x[i]);
      HADAL_UNROLL
      for (int t = 0; t < T; ++t) {
        acc[t] = S::Fma(xi, LoadWide<S, W>(w[t] + i * kTile * kWidth<W>, scale[t]), acc[t]);
      }
    }
  }
  HADAL_UNROLL
  for (int t = 0; t < T; ++t) S::Store(y + kTile * t, acc[t]);
}

template <class S, Wide W, int M>
HADAL_INLINE void SumFloats(const FloatTile& tile, int64_t k, const float* const* x_rows,
                            typename S::F (&acc)[M]) {
  const float* x[M];
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) x[m] = x_rows[m];
  const uint8_t* w = tile.data;
  for (int64_t i = 0; i < k;) {
    const typename S::F scale = W == Wide::kFp8 ? S::Set(tile.scale[i / kFp8Run]) : S::Zero();
    for (const int64_t end = RunEnd<W>(i, k); i < end; ++i) {
      // Halves come from memory tile by tile; f32 is most often a panel that is near already.
      if constexpr (W == Wide::kF16 || W == Wide::kBf16) S::Prefetch(w + i * kTile * kWidth<W>);
      const typename S::F wi = LoadWide<S, W>(w + i * kTile * kWidth<W>, scale);
      HADAL_UNROLL
      for (int m = 0; m < M; ++m) acc[m] = S::FmaSet(x[m] + i, wi, acc[m]);
    }
  }
}

template <class S, Wide W, int M>
void DirectFloats(const FloatTile& tile, int64_t k, const float* const* x, float* acc_out) {
  typename S::F acc[M];
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) acc[m] = S::Load(acc_out + kTile * m);
  SumFloats<S, W, M>(tile, k, x, acc);
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) S::Store(acc_out + kTile * m, acc[m]);
}

template <class S, Wide W, int M, bool kAdd>
void WholeFloats(const FloatTile& tile, int64_t k, const float* const* x, float* y,
                 int64_t stride) {
  typename S::F acc[M];
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) acc[m] = S::Zero();
  SumFloats<S, W, M>(tile, k, x, acc);
  HADAL_UNROLL
  for (int m = 0; m < M; ++m, y += stride) {
    S::Store(y, kAdd ? S::Add(acc[m], S::Load(y)) : acc[m]);
  }
}

template <class S, int M, int kChain>
void TurnedFloats(const FloatTile& tile, int64_t k, const float* x, int64_t pitch, float* y,
                  int64_t stride) {
  typename S::F acc[M];
  HADAL_UNROLL
  for (int m = 0; m < M; ++m) {
    acc[m] = kChain == FloatKernels::kGoOn ? S::Load(y + m * stride) : S::Zero();
  }
  const float* w = reinterpret_cast<const float*>(tile.data);
  for (int64_t i = 0; i < k; ++i, x += pitch, w += kTile) {
    const typename S::F wi = S::Load(w);
    HADAL_UNROLL
    for (int m = 0; m < M; ++m) acc[m] = S::FmaSet(x + m, wi, acc[m]);
  }
  HADAL_UNROLL
  for (int m = 0; m < M; ++m, y += stride) {
    S::Store(y, kChain == FloatKernels::kAdd ? S::Add(acc[m], S::Load(y)) : acc[m]);
  }
}

template <int M>
void TurnRows(const float* const* from, int64_t k, int64_t cols, float* to, int64_t panel) {
  for (int64_t i = 0; i < k; ++i, to += M) {
    const float* row = from[i];
    float* out = to;
    int64_t c = 0;
    for (; c + M <= cols; c += M, out += panel) __builtin_memcpy(out, row + c, M * sizeof(float));
    for (int64_t r = 0; c + r < cols; ++r) out[r] = row[c + r];
  }
}

template <class S, Wide W>
void Widen(const FloatTile& tile, int64_t k0, int64_t k, float* panel) {
  const uint8_t* w = tile.data;
  for (int64_t i = k0; i < k0 + k;) {
    const typename S::F scale = W == Wide::kFp8 ? S::Set(tile.scale[i / kFp8Run]) : S::Zero();
    for (const int64_t end = RunEnd<W>(i, k0 + k); i < end; ++i, panel += kTile) {
      S::Store(panel, LoadWide<S, W>(w + i * kTile * kWidth<W>, scale));
    }
  }
}

template <class S, Wide W, int M>
constexpr void SetFloatKernels(FloatKernels& kernels) {
  if constexpr (M <= S::kFloatRows) {
    kernels.direct[M] = DirectFloats<S, W, M>;
    kernels.whole[0][M] = WholeFloats<S, W, M, false>;
    kernels.whole[1][M] = WholeFloats<S, W, M, true>;
    if constexpr (W == Wide::kF32) {
      kernels.turned[FloatKernels::kStore][M] = TurnedFloats<S, M, FloatKernels::kStore>;
      kernels.turned[FloatKernels::kAdd][M] = TurnedFloats<S, M, FloatKernels::kAdd>;
      kernels.turned[FloatKernels::kGoOn][M] = TurnedFloats<S, M, FloatKernels::kGoOn>;
    }
  }
  if constexpr (M > 1) SetFloatKernels<S, W, M - 1>(kernels);
}

template <class S, Wide W>
constexpr FloatKernels MakeFloatKernels() {
  FloatKernels kernels = {.quad = SingleRow<S, W, 4>,
                          .direct = {},
                          .whole = {},
                          .turned = {},
                          .turn = W == Wide::kF32 ? TurnRows<S::kFloatRows> : nullptr,
                          .widen = Widen<S, W>};
  SetFloatKernels<S, W, kMaxRows>(kernels);
  return kernels;
}

template <class S>
constexpr MatMulKernels MakeMatMulKernels() {
  return {.direct_rows = S::kDirectRows,
          .block_rows = S::kBlockRows,
          .signed_rows = S::kSignedRows,
          .float_rows = S::kFloatRows,
          .quantise = S::Quantise,
          .block = {MakeBlockKernels<S, kFormats[0]>(), MakeBlockKernels<S, kFormats[1]>(),
                    MakeBlockKernels<S, kFormats[2]>(), MakeBlockKernels<S, kFormats[3]>(),
                    MakeBlockKernels<S, kFormats[4]>(), MakeBlockKernels<S, kFormats[5]>(),
                    MakeBlockKernels<S, kFormats[6]>(), MakeBlockKernels<S, kFormats[7]>(),
                    MakeBlockKernels<S, kFormats[8]>(), MakeBlockKernels<S, kFormats[9]>(),
                    MakeBlockKernels<S, kFormats[10]>(), MakeBlockKernels<S, kFormats[11]>(),
                    MakeBlockKernels<S, kFormats[12]>()},
          .floats = {MakeFloatKernels<S, Wide::kF32>(), MakeFloatKernels<S, Wide::kF16>(),
                     MakeFloatKernels<S, Wide::kBf16>(), MakeFloatKernels<S, Wide::kFp8>()}};
}

}  // namespace
}  // namespace hadal::internal
