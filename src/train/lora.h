// Low-rank adapters (arXiv:2106.09685): W = W0 + alpha / r * B A, A [r, in], B [out, r]. The
// masters always hold the merged W, so every checkpoint is a plain model; the gradient of W gives
// those of A and B exactly.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernels/exec.h"
#include "model/parameters.h"
#include "tensor/buffer.h"
#include "train/options.h"

namespace hadal {

class Lora {
 public:
  // A: N(0, 1 / in), B: 0, by options.seed. An error when no matrix matches the targets.
  static Result<std::unique_ptr<Lora>> Create(const Exec& exec, Parameters& parameters,
                                              const TrainOptions& options);
  // One AdamW step of A and B from the gradients of the merged matrices, which are merged anew.
  void Update(int64_t step, double lr, double grad_scale);
  int64_t trained_parameters() const;
  // A, B, their moments and W0, by name.
  template <typename Visit>
  Status VisitState(const Visit& visit);

 private:
  struct Adapter {
    int64_t parameter = 0;
    std::string name;
    // a [r, in], b [out, r], first and second moments of both, and W0.
    std::vector<float> a, b, a_first, a_second, b_first, b_second, base;
  };
  Lora(const Exec& exec, Parameters& parameters, const TrainOptions& options)
      : exec_(exec), parameters_(parameters), options_(options) {}
  void Merge(const Adapter& adapter);

  const Exec& exec_;
  Parameters& parameters_;
  TrainOptions options_;
  std::vector<Adapter> adapters_;
};

template <typename Visit>
Status Lora::VisitState(const Visit& visit) {
  for (Adapter& d : adapters_) {
    const Parameters::Entry& e = parameters_.entries()[static_cast<size_t>(d.parameter)];
    const int64_t r = options_.lora.rank;
    const std::vector<int64_t> a = {r, e.cols}, b = {e.rows, r};
    TRY(visit({"lora_A." + d.name, a, d.a}));
    TRY(visit({"lora_B." + d.name, b, d.b}));
    TRY(visit({"exp_avg.lora_A." + d.name, a, d.a_first}));
    TRY(visit({"exp_avg.lora_B." + d.name, b, d.b_first}));
    TRY(visit({"exp_avg_sq.lora_A." + d.name, a, d.a_second}));
    TRY(visit({"exp_avg_sq.lora_B." + d.name, b, d.b_second}));
    TRY(visit({"base." + d.name, {e.rows, e.cols}, d.base}));
  }
  return {};
}

}  // namespace hadal
