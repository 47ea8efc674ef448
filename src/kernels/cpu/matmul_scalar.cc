// The primitive layer in plain C++: sixteen lanes are an array.
#include <bit>
#include <cstring>

#include "kernels/cpu/matmul_kernel.h"
#include "tensor/half.h"

#define HADAL_INLINE inline
#define HADAL_UNROLL

namespace hadal::internal {
namespace {

struct Scalar {
  struct F {
    float v[16];
  };
  struct I {
    int32_t v[16];
  };
  struct B {
    uint8_t v[64];
  };
  using D = I;
  using Signed = B;
  static constexpr bool kWideSums = true;
  static constexpr int kSignedOffset = 0;
  static constexpr int kDirectRows = 1, kBlockRows = 1, kSignedRows = 1, kFloatRows = 1;

  template <typename Op>
  static F MakeF(Op op) {
    F r;
    for (int i = 0; i < 16; ++i) r.v[i] = op(i);
    return r;
  }
  template <typename Op>
  static I MakeI(Op op) {
    I r;
    for (int i = 0; i < 16; ++i) r.v[i] = op(i);
    return r;
  }
  template <typename Op>
  static B MakeB(Op op) {
    B r;
    for (int i = 0; i < 64; ++i) r.v[i] = static_cast<uint8_t>(op(i));
    return r;
  }

  static void Prefetch(const uint8_t*) {}
  static F Zero() { return {}; }
  static F Load(const float* p) {
    return MakeF([&](int i) { return p[i]; });
  }
  static void Store(float* p, F a) { std::memcpy(p, a.v, sizeof a.v); }
  static F Set(float x) {
    return MakeF([&](int) { return x; });
  }
  static F Add(F a, F b) {
    return MakeF([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F Mul(F a, F b) {
    return MakeF([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F FmaSet(const float* x, F b, F c) { return Fma(Set(*x), b, c); }
  static F Fma(F a, F b, F c) {
    return MakeF([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
  }
  static F Neg(F a) {
    return MakeF([&](int i) { return -a.v[i]; });
  }
  static F LoadF16(const uint8_t* p) {
    uint16_t h[16];
    std::memcpy(h, p, sizeof h);
    return MakeF([&](int i) { return F16ToF32(h[i]); });
  }
  static F LoadBf16(const uint8_t* p) {
    uint16_t h[16];
    std::memcpy(h, p, sizeof h);
    return MakeF([&](int i) { return BF16ToF32(h[i]); });
  }
  static F LoadFp8(const uint8_t* p) {
    return MakeF([&](int i) { return E4M3ToF32(p[i]); });
  }

  static I SetI(int32_t x) {
    return MakeI([&](int) { return x; });
  }
  static I AddI(I a, I b) {
    return MakeI([&](int i) { return a.v[i] + b.v[i]; });
  }
  static I SubI(I a, I b) {
    return MakeI([&](int i) { return a.v[i] - b.v[i]; });
  }
  template <int n>
  static I ShlI(I a) {
    return MakeI([&](int i) { return a.v[i] * (1 << n); });
  }
  template <int n>
  static I SarI(I a) {
    return MakeI([&](int i) { return a.v[i] >> n; });
  }
  static F ToF(I a) {
    return MakeF([&](int i) { return static_cast<float>(a.v[i]); });
  }
  static I LoadU8(const uint8_t* p) {
    return MakeI([&](int i) { return int32_t{p[i]}; });
  }
  static I LoadS8(const uint8_t* p) {
    return MakeI([&](int i) { return int32_t{static_cast<int8_t>(p[i])}; });
  }

  static B LoadB(const uint8_t* p) {
    return MakeB([&](int i) { return p[i]; });
  }
  static void StoreB(uint8_t* p, B a) { std::memcpy(p, a.v, sizeof a.v); }
  static B OrB(B a, B b) {
    return MakeB([&](int i) { return a.v[i] | b.v[i]; });
  }
  static B Low4(B a) {
    return MakeB([&](int i) { return a.v[i] & 15; });
  }
  static B High4(B a) {
    return MakeB([&](int i) { return a.v[i] >> 4; });
  }
  static B Lut(const int8_t* table, B index) {
    return MakeB([&](int i) { return table[index.v[i]]; });
  }
  // Bits from `bit` up move to bit 4; `mask` keeps those wanted.
  template <int bit, int mask>
  static B Plane(B a) {
    return MakeB([&](int i) { return ((a.v[i] >> bit) << 4) & mask; });
  }
  static B Broadcast4(const int8_t* q) {
    return MakeB([&](int i) { return q[i % 4]; });
  }
  static D DotFirst(B codes, B q) { return Dot({}, codes, q); }
  static D Dot(D d, B codes, B q) {
    for (int i = 0; i < 64; ++i) d.v[i / 4] += codes.v[i] * static_cast<int8_t>(q.v[i]);
    return d;
  }
  static I Sum(D d) { return d; }
  static Signed PrepareSigned(B codes) { return codes; }
  static I SignedFirst(Signed codes, B q) { return SignedDot({}, codes, q); }
  static I SignedDot(I d, Signed codes, B q) {
    for (int i = 0; i < 64; ++i) {
      d.v[i / 4] += static_cast<int8_t>(codes.v[i]) * static_cast<int8_t>(q.v[i]);
    }
    return d;
  }

  static void Quantise(const float* x, int64_t blocks, XBlock* out) {
    for (int64_t b = 0; b < blocks; ++b, x += 32) QuantiseBlock(x, out[b]);
  }
  static void QuantiseBlock(const float* x, XBlock& out) {
    // Magnitudes compared as bits, so that NaN is the largest and reaches the scale.
    uint32_t bits = 0;
    for (int i = 0; i < 32; ++i) {
      const uint32_t magnitude = std::bit_cast<uint32_t>(x[i]) & 0x7fffffffu;
      bits = magnitude > bits ? magnitude : bits;
    }
    const float largest = std::bit_cast<float>(bits);
    const bool tiny = bits < kTinyBits;
    const bool finite = bits < 0x7f800000u;
    out.scale = tiny ? 0.0f : largest / 127.0f;
    const float inverse = tiny || !finite ? 0.0f : 127.0f / largest;
    int32_t half[2] = {0, 0};
    for (int i = 0; i < 32; ++i) {
      out.q[i] = finite ? static_cast<int8_t>(__builtin_lrintf(x[i] * inverse)) : int8_t{0};
      half[i / 16] += out.q[i];
    }
    out.sum = out.scale * static_cast<float>(half[0] + half[1]);
    out.sum8 = 8 * (half[0] + half[1]);
    for (int s = 0; s < 2; ++s) {
      out.half_sum[s] = out.scale * static_cast<float>(half[s]);
      out.half32[s] = 32 * half[s];
    }
    out.zero = 0;
  }
};

}  // namespace
}  // namespace hadal::internal

#include "kernels/cpu/matmul_body.h"

namespace hadal::internal {

const MatMulKernels& ScalarMatMulKernels() {
  static constexpr MatMulKernels kKernels = MakeMatMulKernels<Scalar>();
  return kKernels;
}

}  // namespace hadal::internal
