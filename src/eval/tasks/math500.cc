#include "eval/list_task.h"
#include "eval/rows.h"

namespace hadal::eval::tasks {
namespace {

Result<std::vector<std::unique_ptr<Task>>> Open(const std::string&, const std::string& data) {
  std::vector<Item> items;
  for (const Row& row : TRY(ReadRows(data + "/math500/test.jsonl"))) {
    Item item;
    item.id = TRY(row.Get("unique_id"));
    item.prompt =
        TRY(row.Get("problem")) + "\n\nThink step by step. Put the final answer in \\boxed{}.";
    item.gold = TRY(row.Get("answer"));
    items.push_back(std::move(item));
  }
  TaskInfo info;
  info.name = info.family = "math500";
  info.max_tokens = 4096;
  return OneTask(std::move(info), std::move(items), MathJudgement(false));
}

}  // namespace

TaskSource math500() { return {"math500", "", "Competition mathematics (MATH-500)", Open}; }

}  // namespace hadal::eval::tasks
