#include <map>
#include <mutex>
#include <set>

#include "eval/evaluate.h"

namespace hadal::eval {
namespace {

constexpr int kMostRepeats = 1000;  // then an instance may come twice: small levels have few

// Items of one family and level, made as they are asked for.
class ProceduralTask : public Task {
 public:
  ProceduralTask(Family family, int level, const ProceduralOptions& options)
      : stream_({options.seed, family, level, options.language, options.split}) {
    info_.family = FamilyName(family);
    info_.level = level;
    info_.name = info_.family + ':' + std::to_string(level);
    if (options.language == Language::kChinese) info_.name += ":zh";
    info_.max_tokens = level <= 4 ? 512 : 2048;
  }
  const TaskInfo& info() const override { return info_; }
  int64_t size() const override { return INT64_MAX; }

  Item At(int64_t index) const override {
    const std::scoped_lock lock(mutex_);
    while (static_cast<int64_t>(problems_.size()) <= index) Make();
    const Problem& problem = problems_[static_cast<size_t>(index)];
    Item item;
    item.id = std::to_string(problem.index);
    item.prompt = problem.prompt;
    item.gold = problem.gold;
    return item;
  }

  eval::Grade Judge(const Item& item, std::string_view completion, bool) const override {
    Problem problem;
    {
      const std::scoped_lock lock(mutex_);
      const auto it = by_id_.find(item.id);
      if (it == by_id_.end()) return {Verdict::kError, {}, {}, "unknown item"};
      problem = problems_[it->second];
    }
    Extraction found = ExtractAnswer(completion);
    if (!found.found) return {Verdict::kWrong, {}, {}, found.trace};
    const Verdict verdict = Verify(problem, found.answer);
    return {verdict, found.answer, found.answer, found.trace};
  }

 private:
  void Make() const {
    Problem problem = stream_.Next();
    for (int i = 0; i < kMostRepeats && !seen_.insert(problem.canonical).second; ++i) {
      problem = stream_.Next();
    }
    by_id_[std::to_string(problem.index)] = problems_.size();
    problem.thought.clear();
    problems_.push_back(std::move(problem));
  }

  TaskInfo info_;
  mutable std::mutex mutex_;
  mutable ProblemStream stream_;
  mutable std::vector<Problem> problems_;
  mutable std::map<std::string, size_t> by_id_;
  mutable std::set<std::string> seen_;
};

// "4" or "1-4".
Status ParseLevels(const std::string& text, ProceduralOptions& options) {
  int first = 0, last = 0;
  char end = 0;
  const int fields = std::sscanf(text.c_str(), "%2d-%2d%c", &first, &last, &end);
  if (fields == 1 && text.find('-') == std::string::npos) last = first;
  const bool whole = text.find_first_not_of("0123456789-") == std::string::npos;
  if (fields < 1 || fields > 2 || !whole || first < 1 || last < first || last > kLevels) {
    return Error{Code::kInvalid, "levels \"" + text + "\": one of 1 to 8, or a range such as 1-4"};
  }
  options.first_level = first;
  options.last_level = last;
  return {};
}

// FAMILY, LEVELS, "zh" and "validation", in any order, between colons.
Result<std::vector<std::unique_ptr<Task>>> Open(const std::string& argument, const std::string&) {
  ProceduralOptions options;
  for (size_t at = 0; at < argument.size();) {
    const size_t end = std::min(argument.find(':', at), argument.size());
    const std::string part = argument.substr(at, end - at);
    at = end + 1;
    if (part == "zh") {
      options.language = Language::kChinese;
    } else if (part == "validation") {
      options.split = Split::kValidation;
    } else if (const auto family = FamilyFromName(part)) {
      options.families.push_back(*family);
    } else {
      TRY(ParseLevels(part, options));
    }
  }
  return ProceduralTasks(options);
}

}  // namespace

std::vector<std::unique_ptr<Task>> ProceduralTasks(const ProceduralOptions& options) {
  std::vector<Family> families = options.families;
  for (int f = 0; families.size() < kFamilies && options.families.empty(); ++f) {
    families.push_back(static_cast<Family>(f));
  }
  std::vector<std::unique_ptr<Task>> tasks;
  for (const Family family : families) {
    for (int level = options.first_level; level <= options.last_level; ++level) {
      tasks.push_back(std::make_unique<ProceduralTask>(family, level, options));
    }
  }
  return tasks;
}

namespace tasks {

TaskSource procedural() {
  return {"procedural", "LEVELS[:zh]",
          "Generated problems of every family, held out from training; FAMILY[:LEVELS] for one",
          Open};
}

}  // namespace tasks
}  // namespace hadal::eval
