// A task: prompts and the one grader of their answers, for evaluation and as a reward.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "data/problems.h"

namespace hadal::eval {

// Of the problems' verifiers. kError: the grader could not decide (no sandbox, a gold answer it
// cannot read, an endpoint that failed); it is never counted as wrong.
using hadal::Verdict;
std::string_view VerdictName(Verdict verdict);  // "right", "wrong", "error"

struct Grade {
  Verdict verdict = Verdict::kWrong;
  std::string extracted;  // what was taken for the answer; empty when none was found
  std::string key;        // equal for equal answers, for the majority vote; empty: no vote
  std::string trace;      // how the answer was found and why the verdict, one line
};

struct Item {
  std::string id;      // stable, unique within the task
  std::string prompt;  // the user's message; of kChoice and kText the context, may be empty
  std::string gold;    // as the log shows it
  // kChoice: the continuations and the index of the right one. kText: one, the text to predict.
  std::vector<std::string> choices = {};
  int64_t gold_choice = -1;
};

struct TaskInfo {
  enum class Kind : uint8_t {
    kGenerate,  // the model answers, Grade judges
    kChoice,    // the likeliest continuation is the answer
    kText,      // bits per byte of the text
  };
  Kind kind = Kind::kGenerate;
  std::string name;           // "gsm8k", "countdown:3"
  std::string family;         // of procedural problems: the family; else the name
  int level = 0;              // of procedural problems; else 0
  int64_t max_tokens = 1024;  // a budget that suffices
  bool votes = true;          // Grade gives keys
};

// Immutable once opened; every function may be called from several threads at once.
class Task {
 public:
  virtual ~Task() = default;
  virtual const TaskInfo& info() const = 0;
  virtual int64_t size() const = 0;  // items; INT64_MAX: endless
  // index in [0, size()). The same index gives the same item on any machine.
  virtual Item At(int64_t index) const = 0;
  // completion: the whole output, thoughts and their tags included. Only what follows the last
  // </think> is searched for the answer; with an unclosed <think> there is none. `strict` accepts
  // only the answer format that the prompt asked for (for rewards). Of kChoice: the letter that a
  // model without log-probabilities wrote. Bytes of any kind give a verdict.
  virtual Grade Judge(const Item& item, std::string_view completion, bool strict) const = 0;
};

// What opens tasks: one file of src/eval/tasks each, which defines `TaskSource NAME()`.
struct TaskSource {
  std::string name;         // as --task names it
  std::string argument;     // what may follow a colon, for the help; empty: nothing
  std::string description;  // one line
  // data: the folder of the public data sets. Errors: kNotFound where the data is not there.
  std::function<Result<std::vector<std::unique_ptr<Task>>>(const std::string& argument,
                                                           const std::string& data)>
      open;
};
const std::vector<TaskSource>& TaskSources();

// "gsm8k,countdown:1-4,choice:questions.jsonl": the tasks named, in order. Errors: an unknown name
// (with the nearest known one), a wrong argument, a missing or broken file.
Result<std::vector<std::unique_ptr<Task>>> OpenTasks(std::string_view names,
                                                     const std::string& data);
inline constexpr const char* kDefaultData = "../shared/data";

}  // namespace hadal::eval
