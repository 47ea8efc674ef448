#include <map>

#include "eval/code.h"
#include "eval/extract.h"
#include "eval/list_task.h"
#include "eval/rows.h"

namespace hadal::eval::tasks {
namespace {

struct Test {
  std::string prompt, entry, tests;
};
using Tests = std::map<std::string, Test>;  // by the item's id

// The whole function with the prompt's imports and helpers before it, or the body that continues
// the prompt.
std::string Program(const Test& test, const std::string& code) {
  const std::string head = "def " + test.entry + "(";
  if (code.find(head) == std::string::npos) return test.prompt + code;
  return test.prompt.substr(0, std::min(test.prompt.find(head), test.prompt.size())) + code;
}

Result<std::vector<std::unique_ptr<Task>>> Open(const std::string&, const std::string& data) {
  std::vector<Item> items;
  auto tests = std::make_shared<Tests>();
  for (const Row& row : TRY(ReadRows(data + "/humaneval/HumanEval.jsonl.gz"))) {
    Item item;
    item.id = TRY(row.Get("task_id"));
    Test test{TRY(row.Get("prompt")), TRY(row.Get("entry_point")), TRY(row.Get("test"))};
    test.tests += "\ncheck(" + test.entry + ")\n";
    item.prompt =
        "Complete this Python function. Answer with the whole function in one "
        "```python block.\n\n```python\n" +
        test.prompt + "```";
    item.gold = TRY(row.Get("canonical_solution"));
    (*tests)[item.id] = std::move(test);
    items.push_back(std::move(item));
  }
  const auto sandbox = TRY(SharedSandbox());
  TaskInfo info;
  info.name = info.family = "humaneval";
  info.votes = false;
  return OneTask(std::move(info), std::move(items),
                 [tests, sandbox](const Item& item, std::string_view text, bool strict) -> Grade {
                   const auto test = tests->find(item.id);
                   if (test == tests->end()) return {Verdict::kError, {}, {}, "unknown item"};
                   const Found code = FindCode(text, strict);
                   if (!code.found) return {Verdict::kWrong, {}, {}, code.trace};
                   Grade grade =
                       RunTests(*sandbox, Program(test->second, code.answer), test->second.tests);
                   grade.trace = code.trace + "; " + grade.trace;
                   return grade;
                 });
}

}  // namespace

TaskSource humaneval() {
  return {"humaneval", "", "Python functions, run in the sandbox (HumanEval, 164)", Open};
}

}  // namespace hadal::eval::tasks
