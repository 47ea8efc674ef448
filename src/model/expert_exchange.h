// How a model in training reaches experts that other ranks keep.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/view.h"

namespace hadal {

// `ranks` processes share the routed experts of every MoE layer: of E experts rank r keeps
// [r * E / ranks, (r + 1) * E / ranks).
struct ExpertShare {
  int64_t rank = 0, ranks = 1;
  int64_t Size(int64_t experts) const { return experts / ranks; }
  int64_t First(int64_t experts) const { return rank * Size(experts); }
};

// All ranks of a share run the same passes over layers, each with its own rows (maybe none), and so
// make the same calls in the same order.
class ExpertExchange {
 public:
  virtual ~ExpertExchange() = default;
  virtual ExpertShare share() const = 0;
  // The r-th of share().ranks equal runs of `send` goes to rank r, that of `receive` comes from it.
  virtual void Counts(std::span<const int32_t> send, std::span<int32_t> receive) = 0;
  // Rows, those for rank 0 first: send_rows[r] of them go to rank r, receive_rows[r] come from it,
  // as that rank's call has it. Rows lie without gaps and have the same length everywhere.
  virtual void Rows(View2<const float> send, std::span<const int64_t> send_rows,
                    View2<float> receive, std::span<const int64_t> receive_rows) = 0;
};

}  // namespace hadal
