#include "train/lora.h"

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "kernels/gemm.h"
#include "kernels/optimizer.h"

namespace hadal {
namespace {

bool Targeted(const Parameters::Entry& e, const std::vector<std::string>& targets) {
  if (!e.matrix() || !e.trained) return false;
  if (targets.empty()) {
    return e.spec.name.find(".layers.") != std::string::npos &&
           !e.spec.name.ends_with(".gate.weight");
  }
  return std::any_of(targets.begin(), targets.end(), [&](const std::string& t) {
    return e.spec.name.find(t) != std::string::npos;
  });
}

}  // namespace

Result<std::unique_ptr<Lora>> Lora::Create(const Exec& exec, Parameters& parameters,
                                           const TrainOptions& options) {
  auto lora = std::unique_ptr<Lora>(new Lora(exec, parameters, options));
  const auto r = static_cast<size_t>(options.lora.rank);
  for (size_t i = 0; i < parameters.entries().size(); ++i) {
    const Parameters::Entry& e = parameters.entries()[i];
    if (!Targeted(e, options.lora.targets)) continue;
    Adapter d;
    d.parameter = static_cast<int64_t>(i);
    d.name = e.spec.name;
    const auto in = static_cast<size_t>(e.cols), out = static_cast<size_t>(e.rows);
    d.a.resize(r * in);
    d.b.resize(out * r);
    d.a_first.resize(d.a.size());
    d.a_second.resize(d.a.size());
    d.b_first.resize(d.b.size());
    d.b_second.resize(d.b.size());
    const View2<float> w = parameters.value(d.parameter);
    d.base.assign(w.data, w.data + e.size());
    Rng rng(options.seed, i);
    const double std = 1 / std::sqrt(static_cast<double>(in));
    for (float& v : d.a) v = static_cast<float>(std * rng.NextNormal());
    lora->adapters_.push_back(std::move(d));
  }
  if (lora->adapters_.empty()) {
    return Error{Code::kInvalid, "lora.targets: no matrix of the model has such a name"};
  }
  return lora;
}

int64_t Lora::trained_parameters() const {
  size_t n = 0;
  for (const Adapter& d : adapters_) n += d.a.size() + d.b.size();
  return static_cast<int64_t>(n);
}

void Lora::Update(int64_t step, double lr, double grad_scale) {
  const int64_t r = options_.lora.rank;
  const OptimizerOptions& opt = options_.optimizer;
  AdamWOptions o;
  o.lr = static_cast<float>(lr);
  o.beta1 = static_cast<float>(opt.beta1);
  o.beta2 = static_cast<float>(opt.beta2);
  o.eps = static_cast<float>(opt.eps);
  o.weight_decay = static_cast<float>(opt.weight_decay);
  o.step = step;
  // The gradient of s B A through s.
  o.grad_scale = static_cast<float>(grad_scale * options_.lora.alpha / static_cast<double>(r));
  for (Adapter& d : adapters_) {
    const View2<const float> g = parameters_.gradient(d.parameter);
    const View2<float> a(d.a.data(), r, g.cols), b(d.b.data(), g.rows, r);
    std::vector<float> da(d.a.size()), db(d.b.size());
    Gemm(exec_, {b, true}, {g, true}, {da.data(), r, g.cols});  // B^T dW
    Gemm(exec_, {g}, {a}, {db.data(), g.rows, r});              // dW A^T
    AdamW(exec_, d.a, da, {d.a_first.data()}, {d.a_second.data()}, o);
    AdamW(exec_, d.b, db, {d.b_first.data()}, {d.b_second.data()}, o);
    Merge(d);
  }
}

void Lora::Merge(const Adapter& d) {
  const int64_t r = options_.lora.rank;
  const View2<float> w = parameters_.value(d.parameter);
  std::vector<float> scaled(d.b);
  const auto s = static_cast<float>(options_.lora.alpha / static_cast<double>(r));
  for (float& v : scaled) v *= s;
  const View2<const float> a(d.a.data(), r, w.cols), b(scaled.data(), w.rows, r);
  std::copy(d.base.begin(), d.base.end(), w.data);
  Gemm(exec_, {b}, {a, true}, w, {.accumulate = true});
}

}  // namespace hadal
