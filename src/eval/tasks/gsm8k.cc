#include "eval/list_task.h"
#include "eval/rows.h"

namespace hadal::eval::tasks {
namespace {

Result<std::vector<std::unique_ptr<Task>>> Open(const std::string&, const std::string& data) {
  const std::string path = data + "/gsm8k/test.jsonl";
  std::vector<Item> items;
  for (const Row& row : TRY(ReadRows(path))) {
    const std::string answer = TRY(row.Get("answer"));
    const size_t mark = answer.rfind("####");
    if (mark == std::string::npos) {
      return Error{Code::kCorrupt,
                   path + ": line " + std::to_string(row.line) + ": the answer has no ####"};
    }
    Item item;
    item.id = "test/" + std::to_string(items.size());
    item.prompt =
        TRY(row.Get("question")) + "\n\nThink step by step. Put the final number in \\boxed{}.";
    item.gold = answer.substr(std::min(answer.find_first_not_of(" ", mark + 4), answer.size()));
    items.push_back(std::move(item));
  }
  TaskInfo info;
  info.name = info.family = "gsm8k";
  return OneTask(std::move(info), std::move(items), MathJudgement(true));
}

}  // namespace

TaskSource gsm8k() { return {"gsm8k", "", "Grade-school word problems (GSM8K test, 1,319)", Open}; }

}  // namespace hadal::eval::tasks
