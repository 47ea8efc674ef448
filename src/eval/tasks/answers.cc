#include "eval/list_task.h"
#include "eval/rows.h"

namespace hadal::eval::tasks {
namespace {

Result<std::vector<std::unique_ptr<Task>>> Open(const std::string& path, const std::string&) {
  if (path.empty()) return Error{Code::kInvalid, "name a file: answers:FILE.jsonl"};
  std::vector<Item> items;
  for (const Row& row : TRY(ReadRows(path))) {
    Item item;
    item.id = std::to_string(row.line);
    item.prompt = TRY(row.Get("prompt"));
    item.gold = TRY(row.Get("answer"));
    items.push_back(std::move(item));
  }
  TaskInfo info;
  info.name = info.family = "answers:" + path;
  return OneTask(std::move(info), std::move(items), MathJudgement(false));
}

}  // namespace

TaskSource answers() {
  return {"answers", "FILE.jsonl", "Your own questions: {\"prompt\", \"answer\"} a line", Open};
}

}  // namespace hadal::eval::tasks
