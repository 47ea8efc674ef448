#include <map>

#include "eval/code.h"
#include "eval/extract.h"
#include "eval/list_task.h"
#include "eval/rows.h"

namespace hadal::eval::tasks {
namespace {

// The test part of MBPP, by task id.
constexpr int64_t kFirst = 11, kLast = 510;

Result<std::vector<std::unique_ptr<Task>>> Open(const std::string&, const std::string& data) {
  std::vector<Item> items;
  auto tests = std::make_shared<std::map<std::string, std::string>>();
  for (const Row& row : TRY(ReadRows(data + "/mbpp/mbpp.jsonl"))) {
    const std::string id = TRY(row.Get("task_id"));
    const int64_t number = std::strtoll(id.c_str(), nullptr, 10);
    if (number < kFirst || number > kLast) continue;
    Item item;
    item.id = id;
    std::string asserts;
    for (const std::string& test : TRY(row.List("test_list"))) asserts += test + '\n';
    item.prompt = TRY(row.Get("text")) + "\nYour code should pass these tests:\n\n" + asserts +
                  "\nAnswer with the whole program in one ```python block.";
    item.gold = TRY(row.Get("code"));
    (*tests)[id] = TRY(row.Get("test_setup_code")) + '\n' + asserts;
    items.push_back(std::move(item));
  }
  const auto sandbox = TRY(SharedSandbox());
  TaskInfo info;
  info.name = info.family = "mbpp";
  info.votes = false;
  return OneTask(std::move(info), std::move(items),
                 [tests, sandbox](const Item& item, std::string_view text, bool strict) -> Grade {
                   const auto test = tests->find(item.id);
                   if (test == tests->end()) return {Verdict::kError, {}, {}, "unknown item"};
                   const Found code = FindCode(text, strict);
                   if (!code.found) return {Verdict::kWrong, {}, {}, code.trace};
                   Grade grade = RunTests(*sandbox, code.answer, test->second);
                   grade.trace = code.trace + "; " + grade.trace;
                   return grade;
                 });
}

}  // namespace

TaskSource mbpp() {
  return {"mbpp", "", "Small Python programs, run in the sandbox (MBPP test, 500)", Open};
}

}  // namespace hadal::eval::tasks
