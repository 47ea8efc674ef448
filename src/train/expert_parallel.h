// The ranks of a job in groups that share the routed experts: ranks [g * G, (g + 1) * G) are group
// g, and the i-th rank of every group keeps the same experts ("copies").
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "comm/world.h"
#include "model/expert_exchange.h"

namespace hadal {

class ExpertParallel final : public ExpertExchange {
 public:
  // All ranks call this together and get the same answer. An error when `ranks` >= 1, those of a
  // group, does not divide the world.
  static Result<std::unique_ptr<ExpertParallel>> Create(World& world, int64_t ranks);

  ExpertShare share() const override { return {group_->rank(), group_->size()}; }
  void Counts(std::span<const int32_t> send, std::span<int32_t> receive) override;
  void Rows(View2<const float> send, std::span<const int64_t> send_rows, View2<float> receive,
            std::span<const int64_t> receive_rows) override;

  World& group() { return *group_; }
  World& copies() { return *copies_; }  // of the experts of this rank, this one included

 private:
  ExpertParallel(std::unique_ptr<World> group, std::unique_ptr<World> copies)
      : group_(std::move(group)), copies_(std::move(copies)) {}
  std::unique_ptr<World> group_, copies_;
};

}  // namespace hadal
