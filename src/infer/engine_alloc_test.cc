// A decode step in steady state allocates nothing: operator new is counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "infer/internal_testing.h"

namespace {
std::atomic<int64_t> allocations = 0;

void* Count(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* p = std::malloc(size == 0 ? 1 : size);
  if (p == nullptr) std::abort();
  return p;
}
void* Count(std::size_t size, std::size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* p = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (p == nullptr) std::abort();
  return p;
}
}  // namespace

void* operator new(std::size_t size) { return Count(size); }
void* operator new[](std::size_t size) { return Count(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return Count(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return Count(size); }
void* operator new(std::size_t size, std::align_val_t a) {
  return Count(size, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t size, std::align_val_t a) {
  return Count(size, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace hadal {
namespace {

using namespace hadal::testing;  // NOLINT: one test file

// Allocations of 60 steps of decoding. With several threads a worker's scratch grows the first time
// that chance hands it a larger task, so the best of three windows counts.
int64_t AllocationsOfDecoding(Shape shape, DType type, const EngineOptions& options,
                              int64_t sequences) {
  int64_t worst = 0;
  for (const int threads : {1, 2}) {
    const Exec exec(threads, ChooseIsa().ok() ? *ChooseIsa() : Isa::kScalar);
    auto model = TinyModel(exec, shape, type);
    auto engine = NewEngine(*model, options);
    Rng rng(3);
    for (int64_t i = 0; i < sequences; ++i) {
      Request r = Greedy(RandomIds(rng, 20), -1);
      // One of every kind of sampling.
      r.sampling.temperature = i % 2 == 0 ? 0.0f : 0.8f;
      r.sampling.top_p = i % 4 < 2 ? 0.9f : 1.0f;
      r.sampling.repetition_penalty = 1.1f;
      r.sampling.presence_penalty = 0.1f;
      MustSubmit(*engine, r);
    }
    for (int i = 0; i < 40; ++i) (void)engine->Step();
    int64_t least = threads == 1 ? 0 : 1'000'000;
    for (int window = 0; window < 3; ++window) {
      const int64_t before = allocations.load();
      for (int i = 0; i < 60; ++i) {
        if (engine->Step().size() != static_cast<size_t>(sequences)) {
          ADD_FAILURE() << "not decoding";
        }
      }
      const int64_t count = allocations.load() - before;
      least = threads == 1 ? least + count : std::min(least, count);
    }
    worst = std::max(worst, least);
  }
  return worst;
}

TEST(EngineAlloc, TheCounterCounts) {
  const int64_t before = allocations.load();
  ::operator delete(::operator new(100));
  EXPECT_EQ(allocations.load(), before + 1);
}

TEST(EngineAlloc, DecodingAllocatesNothing) {
  for (const int64_t sequences : {1, 5}) {
    for (const bool cache : {false, true}) {
      EngineOptions options;
      options.prefix_cache = cache;
      options.speculation = EngineOptions::Speculation::kOff;
      EXPECT_EQ(AllocationsOfDecoding(Shape::kLlama, DType::kF32, options, sequences), 0);
      EXPECT_EQ(AllocationsOfDecoding(Shape::kQwen2, DType::kQ8_0, options, sequences), 0);
      EXPECT_EQ(AllocationsOfDecoding(Shape::kDeepseekV3, DType::kQ4_0, options, sequences), 0);
    }
  }
}

// A pool so small that every new block evicts a cached one.
TEST(EngineAlloc, EvictingAllocatesNothing) {
  EngineOptions options;
  options.kv_blocks = 16;
  options.speculation = EngineOptions::Speculation::kOff;
  const Exec exec(1, Isa::kScalar);
  auto model = TinyModel(exec, Shape::kLlama);
  auto engine = NewEngine(*model, options);
  Rng rng(4);
  for (int i = 0; i < 6; ++i) {
    MustSubmit(*engine, Greedy(RandomIds(rng, 60), 1));
    Drain(*engine);
  }
  MustSubmit(*engine, Greedy(RandomIds(rng, 5), 150));
  for (int i = 0; i < 40; ++i) (void)engine->Step();
  EXPECT_EQ(engine->stats().free_blocks, 0);
  const int64_t before = allocations.load();
  for (int i = 0; i < 100; ++i) (void)engine->Step();
  EXPECT_EQ(allocations.load() - before, 0);
  EXPECT_EQ(engine->stats().free_blocks, 0);
}

TEST(EngineAlloc, SpeculationAllocatesNothingOnceEveryWidthWasSeen) {
  EngineOptions options;
  options.speculation = EngineOptions::Speculation::kAlways;
  const Exec exec(1, Isa::kScalar);
  auto model = TinyModel(exec, Shape::kLlama);
  auto engine = NewEngine(*model, options);
  // The second of two equal runs meets the same widths as the first.
  for (int run = 0; run < 2; ++run) {
    MustSubmit(*engine, Greedy({1, 2, 3}, 150));
    (void)engine->Step();
    const int64_t before = allocations.load();
    while (engine->stats().running > 0 && engine->stats().generated_tokens < 140 * (run + 1)) {
      (void)engine->Step();
    }
    EXPECT_TRUE(run == 0 || allocations.load() == before);
  }
}

}  // namespace
}  // namespace hadal
