#include "eval/extract.h"
#include "eval/list_task.h"
#include "eval/rows.h"

namespace hadal::eval::tasks {
namespace {

constexpr size_t kMostChoices = 26;

// "answer" is an index from 0, a letter, or the right choice itself.
Result<int64_t> GoldIndex(const Row& row, const std::vector<std::string>& choices) {
  const std::string answer = TRY(row.Get("answer"));
  for (size_t i = 0; i < choices.size(); ++i) {
    if (answer == choices[i] || answer == std::string(1, static_cast<char>('A' + i)) ||
        answer == std::to_string(i)) {
      return static_cast<int64_t>(i);
    }
  }
  return Error{Code::kInvalid, "line " + std::to_string(row.line) + ": answer \"" + answer +
                                   "\" is no index, letter or choice"};
}

Grade Judge(const Item& item, std::string_view completion, bool strict) {
  Found found = FindLetter(completion, static_cast<int>(item.choices.size()), strict);
  if (!found.found) return {Verdict::kWrong, {}, {}, found.trace};
  const bool right = found.answer[0] - 'A' == item.gold_choice;
  return {right ? Verdict::kRight : Verdict::kWrong, found.answer, found.answer, found.trace};
}

Result<std::vector<std::unique_ptr<Task>>> Open(const std::string& path, const std::string&) {
  if (path.empty()) return Error{Code::kInvalid, "name a file: choice:FILE.jsonl"};
  std::vector<Item> items;
  for (const Row& row : TRY(ReadRows(path))) {
    Item item;
    item.id = std::to_string(row.line);
    item.prompt = "Question: " + TRY(row.Get("question")) + "\nAnswer:";
    const auto choices = TRY(row.List("choices"));
    if (choices.size() < 2 || choices.size() > kMostChoices) {
      return Error{Code::kInvalid, path + ": line " + std::to_string(row.line) + ": " +
                                       std::to_string(choices.size()) + " choices; from 2 to 26"};
    }
    item.gold_choice = TRY(GoldIndex(row, choices));
    item.gold = std::string(1, static_cast<char>('A' + item.gold_choice));
    for (const std::string& choice : choices) item.choices.push_back(' ' + choice);
    items.push_back(std::move(item));
  }
  TaskInfo info;
  info.kind = TaskInfo::Kind::kChoice;
  info.name = info.family = "choice:" + path;
  return OneTask(std::move(info), std::move(items), Judge);
}

}  // namespace

TaskSource choice() {
  return {"choice", "FILE.jsonl",
          "Multiple choice by log-likelihood: {\"question\", \"choices\", \"answer\"} a line",
          Open};
}

}  // namespace hadal::eval::tasks
