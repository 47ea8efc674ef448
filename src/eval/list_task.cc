#include "eval/list_task.h"

#include "eval/answer.h"
#include "eval/extract.h"

namespace hadal::eval {

ListTask::Judgement MathJudgement(bool numbers) {
  return [numbers](const Item& item, std::string_view completion, bool strict) -> Grade {
    Found found = FindAnswer(completion, strict, numbers);
    if (!found.found) return {Verdict::kWrong, {}, {}, found.trace};
    AnswerCheck check = CheckAnswer(item.gold, found.answer);
    return {check.verdict, std::move(found.answer), std::move(check.key),
            found.trace + "; " + check.reason};
  };
}

}  // namespace hadal::eval
