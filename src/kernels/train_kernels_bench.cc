// Speed of the training kernels: operations a second and their share of the machine's peak for the
// type, measured in the same run (kernels/limits.h), at the sizes of a small mixture of experts and
// of a dense model.
//   train_kernels_bench [threads [part of a case's name]]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "kernels/attention_backward.h"
#include "kernels/backward.h"
#include "kernels/limits.h"
#include "kernels/loss.h"
#include "kernels/moe_backward.h"
#include "kernels/optimizer.h"
#include "tensor/buffer.h"

namespace hadal {
namespace {

// Wall time, or the thread's own with one thread: then a busy machine disturbs less.
double Now(const Exec& exec) {
  timespec t;
  clock_gettime(exec.threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The best of at least 4 runs.
double Seconds(const Exec& exec, const std::function<void()>& body) {
  double best = 1e9;
  const double start = Now(exec);
  for (int i = 0; i < 200; ++i) {
    const double a = Now(exec);
    body();
    const double b = Now(exec);
    best = std::min(best, b - a);
    if (i >= 3 && b - start > 0.4) break;
  }
  return best;
}

class Bench {
 public:
  Bench(const Exec& exec, const char* filter) : exec_(exec), filter_(filter) {
    limits_ = MeasureLimits(exec);
    std::printf("%d threads, %s: f32 peak %.1f GFLOP/s, bf16 %.1f, memory %.1f GB/s\n",
                exec.threads(), std::string(IsaName(exec.isa())).c_str(), limits_.f32_ops * 1e-9,
                limits_.bf16_ops * 1e-9, limits_.read_bytes * 1e-9);
  }

  bool Wants(const std::string& name) const {
    return name.find(filter_) != std::string::npos || filter_.find(name) != std::string::npos;
  }
  // `ops` floating point operations, `times` of them in a step of the model.
  void Compute(const std::string& name, double ops, double times, const std::function<void()>& body,
               ComputeType type = ComputeType::kF32) {
    if (name.find(filter_) == std::string::npos) return;
    const double s = Seconds(exec_, body), least = ops / PeakOps(limits_, type);
    std::printf("%-34s %8.2f ms %7.1f GFLOP/s %5.1f %% of peak\n", name.c_str(), s * 1e3,
                ops / s * 1e-9, 100 * least / s);
    ops_ += times * ops;
    least_ += times * least;
    seconds_ += times * s;
  }
  // What moves `bytes`; counted as time without operations.
  void Stream(const std::string& name, double bytes, double times,
              const std::function<void()>& body) {
    if (name.find(filter_) == std::string::npos) return;
    const double s = Seconds(exec_, body);
    std::printf("%-34s %8.2f ms %7.1f GB/s    %5.1f %% of memory\n", name.c_str(), s * 1e3,
                bytes / s * 1e-9, 100 * bytes / s / limits_.read_bytes);
    seconds_ += times * s;
  }
  void Total(const char* name) {
    std::printf("%s, all of them: %.1f GFLOP/s, %.1f %% of peak\n\n", name, ops_ / seconds_ * 1e-9,
                100 * least_ / seconds_);
    ops_ = least_ = seconds_ = 0;
  }

  View2<float> Random(int64_t rows, int64_t cols, float scale = 1.0f) {
    buffers_.emplace_back(static_cast<size_t>(rows * cols) * sizeof(float));
    float* data = buffers_.back().as<float>();
    Rng rng(buffers_.size());
    const int64_t fresh = std::min<int64_t>(rows * cols, 10007);  // the rest repeats them
    for (int64_t i = 0; i < fresh; ++i) data[i] = scale * (rng.NextFloat() - 0.5f);
    for (int64_t i = fresh; i < rows * cols; ++i) data[i] = data[i - fresh];
    return {data, rows, cols};
  }
  const Exec& exec() const { return exec_; }

 private:
  const Exec& exec_;
  std::string filter_;
  std::vector<Buffer> buffers_;
  MachineLimits limits_ = {};
  double ops_ = 0, least_ = 0, seconds_ = 0;
};

// y = x W^T, dx += dy W, dW += dy^T x.
void Linear(Bench& bench, const std::string& name, int64_t tokens, int64_t in, int64_t out,
            double times, ComputeType type = ComputeType::kF32) {
  if (!bench.Wants(name)) return;
  const View2<float> x = bench.Random(tokens, in), w = bench.Random(out, in);
  const View2<float> y = bench.Random(tokens, out), dx = bench.Random(tokens, in);
  const View2<float> dw = bench.Random(out, in);
  const double ops = 2.0 * static_cast<double>(tokens * in * out);
  const Exec& exec = bench.exec();
  bench.Compute(
      name + " y", ops, times,
      [&] { Gemm(exec, {x}, {w}, y, {.type = type, .b_is_weight = true}); }, type);
  bench.Compute(
      name + " dx", ops, times,
      [&] {
        Gemm(exec, {y}, {w, true}, dx, {.type = type, .accumulate = true, .b_is_weight = true});
      },
      type);
  bench.Compute(
      name + " dw", ops, times,
      [&] {
        Gemm(exec, {y, true}, {x, true}, dw, {.type = type, .accumulate = true});
      },
      type);
}

void Attention(Bench& bench, const std::string& name, const GqaShape& s, int64_t tokens,
               int64_t documents, double times) {
  if (!bench.Wants(name)) return;
  const View2<float> q = bench.Random(tokens, s.heads * s.k_dim);
  const View2<float> k = bench.Random(tokens, s.kv_heads * s.k_dim);
  const View2<float> v = bench.Random(tokens, s.kv_heads * s.v_dim);
  const View2<float> dout = bench.Random(tokens, s.heads * s.v_dim);
  const View2<float> dq = bench.Random(tokens, q.cols), dk = bench.Random(tokens, k.cols);
  const View2<float> dv = bench.Random(tokens, v.cols);
  std::vector<SeqSpan> seqs;
  const int64_t n = tokens / documents;
  for (int64_t d = 0; d < documents; ++d) seqs.push_back({nullptr, 0, d * n, n});
  const double ops = static_cast<double>(tokens * (n + 1) * s.heads * (3 * s.k_dim + 2 * s.v_dim));
  bench.Compute(name, ops, times,
                [&] { GqaAttentionBackward(bench.exec(), seqs, s, q, k, v, dout, dq, dk, dv); });
}

void RowOperations(Bench& bench, int64_t tokens, int64_t width, int64_t hidden, int64_t vocab,
                   double layers) {
  if (!bench.Wants("rows")) return;
  const Exec& exec = bench.exec();
  const View2<float> x = bench.Random(tokens, width), dy = bench.Random(tokens, width);
  const View2<float> dx = bench.Random(tokens, width), w = bench.Random(2, width);
  const auto bytes = [](const View2<float>& v) {
    return 4.0 * static_cast<double>(v.rows * v.cols);
  };
  const std::span<float> dw(w.row(1), static_cast<size_t>(width));
  bench.Stream("rows norm", 4 * bytes(x), 2 * layers, [&] {
    RmsNormBackward(exec, dy, x, {w.row(0), static_cast<size_t>(width)}, 1e-6f, dx, dw);
  });
  if (hidden > 0) {
    const View2<float> gate = bench.Random(tokens, hidden), up = bench.Random(tokens, hidden);
    const View2<float> grad = bench.Random(tokens, hidden), dup = bench.Random(tokens, hidden);
    bench.Stream("rows swiglu", 5 * bytes(gate), layers,
                 [&] { SwiGluBackward(exec, grad, gate, up, grad, dup); });
  }
  const View2<float> logits = bench.Random(tokens, vocab);
  const std::vector<int32_t> targets(static_cast<size_t>(tokens), 3);
  std::vector<float> weights(targets.size(), 1.0f), losses(targets.size());
  bench.Stream("rows cross entropy", 4 * bytes(logits), 1,
               [&] { CrossEntropy(exec, logits, targets, weights, 1, 0, losses); });
}

void Steps(Bench& bench, int64_t parameters) {
  if (!bench.Wants("steps")) return;
  const Exec& exec = bench.exec();
  const auto n = static_cast<size_t>(parameters);
  const std::span<float> w(bench.Random(1, parameters).data, n);
  const std::span<float> g(bench.Random(1, parameters).data, n);
  const View2<float> m = bench.Random(1, parameters), v = bench.Random(1, parameters, 0.0f);
  bench.Stream("steps adamw", 28.0 * static_cast<double>(n), 1,
               [&] { AdamW(exec, w, g, {m.data}, {v.data}, {.lr = 1e-6f}); });
  bench.Stream("steps norm of gradients", 4.0 * static_cast<double>(n), 1,
               [&] { SquaredNorm(exec, g); });
}

void Experts(Bench& bench, int64_t tokens, int64_t width, int64_t hidden, int64_t count,
             int64_t top_k, double times) {
  if (!bench.Wants("experts")) return;
  const Exec& exec = bench.exec();
  const View2<float> x = bench.Random(tokens, width), dy = bench.Random(tokens, width);
  const View2<float> dx = bench.Random(tokens, width), logits = bench.Random(tokens, count);
  const View2<float> weights = bench.Random(tokens, top_k), dweights = bench.Random(tokens, top_k);
  const View2<float> gate = bench.Random(tokens * top_k, hidden);
  const View2<float> up = bench.Random(tokens * top_k, hidden);
  std::vector<int32_t> ids(static_cast<size_t>(tokens * top_k));
  const View2<int32_t> id(ids.data(), tokens, top_k);
  MoeRoute(exec, logits, {.experts = count, .top_k = top_k}, {}, id, weights);
  std::vector<View2<const float>> masters[3];
  std::vector<View2<float>> grads[3];
  std::vector<PackedMatrix> packed[3];
  for (int part = 0; part < 3; ++part) {
    for (int64_t e = 0; e < count; ++e) {
      const int64_t rows = part == 2 ? width : hidden, cols = part == 2 ? hidden : width;
      masters[part].push_back(bench.Random(rows, cols));
      grads[part].push_back(bench.Random(rows, cols));
      packed[part].push_back(
          *PackedMatrix::Pack(exec, DType::kF32, masters[part].back().data, rows, cols));
    }
  }
  Workspace memory;
  const MoePlan plan = PlanMoe(id, count, memory);
  const double ops = 2.0 * static_cast<double>(tokens * top_k * width * hidden) * 3;
  const View2<float> y = bench.Random(tokens, width);
  bench.Compute("experts forward", ops, times, [&] {
    MoeExpertsForward(exec, x, plan, weights, {packed[0], packed[1], packed[2]}, gate, up, y);
  });
  bench.Compute("experts backward", 2 * ops, times, [&] {
    MoeExpertsBackward(exec, dy, x, plan, weights, gate, up, {masters[0], masters[1], masters[2]},
                       ComputeType::kF32, dx, dweights, {grads[0], grads[1], grads[2]});
  });
  const GateShape shape = {.experts = count, .top_k = top_k, .score = GateShape::Score::kSigmoid};
  const std::vector<SeqSpan> seqs = {{nullptr, 0, 0, tokens}};
  bench.Stream("experts route and balance", 8.0 * static_cast<double>(tokens * count), times, [&] {
    MoeRouteBackward(exec, logits, shape, id, dweights, logits);
    BalanceLoss(exec, logits, shape, {}, seqs, 0, 0, logits);
  });
}

void Run(const Exec& exec, const char* filter) {
  {
    Bench bench(exec, filter);
    std::printf(
        "small mixture: width 256, 16 experts of 128, top 4, 2048 tokens, vocabulary 4096\n");
    Experts(bench, 2048, 256, 128, 16, 4, 8);
    Attention(bench, "attention, 8 documents", {4, 4, 64, 64, 0.125f}, 2048, 8, 8);
    Linear(bench, "projection 256 x 256", 2048, 256, 256, 3 * 8);
    Linear(bench, "router 256 x 16", 2048, 256, 16, 8);
    Linear(bench, "head 256 x 4096", 2048, 256, 4096, 1);
    RowOperations(bench, 2048, 256, 0, 4096, 8);
    Steps(bench, 16 << 20);
    bench.Total("small mixture");
  }
  {
    Bench bench(exec, filter);
    std::printf("dense: width 768, hidden 2048, 12 heads, 1024 tokens, vocabulary 8192\n");
    Linear(bench, "projection 768 x 768", 1024, 768, 768, 4 * 12);
    Linear(bench, "up 768 x 2048", 1024, 768, 2048, 2 * 12);
    Linear(bench, "down 2048 x 768", 1024, 2048, 768, 12);
    Linear(bench, "head 768 x 8192", 1024, 768, 8192, 1);
    Attention(bench, "attention, 1 document", {12, 12, 64, 64, 0.125f}, 1024, 1, 12);
    RowOperations(bench, 1024, 768, 2048, 8192, 12);
    Steps(bench, 64 << 20);
    bench.Total("dense");
  }
  Bench bench(exec, filter);
  Attention(bench, "attention, 1 kv head", {8, 1, 64, 64, 0.125f}, 2048, 1, 1);
  Linear(bench, "bf16 up 768 x 2048", 1024, 768, 2048, 1, ComputeType::kBF16);
  Linear(bench, "f8 up 768 x 2048", 1024, 768, 2048, 1, ComputeType::kF8);
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) {
  const hadal::Result<hadal::Isa> isa = hadal::ChooseIsa();
  if (!isa.ok()) {
    std::fprintf(stderr, "%s\n", isa.error().message.c_str());
    return 1;
  }
  const hadal::Exec exec(argc > 1 ? std::atoi(argv[1]) : 0, *isa);
  hadal::Run(exec, argc > 2 ? argv[2] : "");
  return 0;
}
