// A task over a list of items and a grading function: what most task files need.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "eval/task.h"

namespace hadal::eval {

class ListTask : public Task {
 public:
  using Judgement =
      std::function<Grade(const Item& item, std::string_view completion, bool strict)>;
  ListTask(TaskInfo info, std::vector<Item> items, Judgement judge)
      : info_(std::move(info)), items_(std::move(items)), judge_(std::move(judge)) {}
  const TaskInfo& info() const override { return info_; }
  int64_t size() const override { return static_cast<int64_t>(items_.size()); }
  Item At(int64_t index) const override { return items_.at(static_cast<size_t>(index)); }
  Grade Judge(const Item& item, std::string_view completion, bool strict) const override {
    return judge_(item, completion, strict);
  }

 private:
  TaskInfo info_;
  std::vector<Item> items_;
  Judgement judge_;
};

inline std::vector<std::unique_ptr<Task>> OneTask(TaskInfo info, std::vector<Item> items,
                                                  ListTask::Judgement judge) {
  std::vector<std::unique_ptr<Task>> tasks;
  tasks.push_back(std::make_unique<ListTask>(std::move(info), std::move(items), std::move(judge)));
  return tasks;
}

// The judgement of mathematical answers: FindAnswer, then CheckAnswer with the item's gold.
// numbers: the last number will do where nothing else is found.
ListTask::Judgement MathJudgement(bool numbers);

}  // namespace hadal::eval
