#include "eval/evaluate.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <thread>

#include "base/file.h"
#include "base/hash.h"
#include "base/thread_pool.h"
#include "eval/internal_exact.h"
#include "eval/internal_samples.h"
#include "eval/statistics.h"

namespace hadal::eval {
namespace {

using internal::Sample;
using Clock = std::chrono::steady_clock;

constexpr int64_t kEndlessItems = 1000;

// One task of a run: its items, and its samples in order of item and number.
struct Run {
  const Task* task = nullptr;
  std::vector<Item> items;
  std::vector<Sample> samples;
  TaskResult result;
  double log2_likelihood = 0;  // of kText: bits and bytes of what was scored
  int64_t bytes = 0;
};

uint64_t SeedOf(uint64_t seed, const std::string& task, const std::string& item, int64_t number) {
  const std::string hex =
      Sha256Hex(std::to_string(seed) + '\n' + task + '\n' + item + '\n' + std::to_string(number));
  return std::strtoull(hex.substr(0, 16).c_str(), nullptr, 16);
}

Run Prepare(const Task& task, const EvalOptions& options) {
  Run run;
  run.task = &task;
  const TaskInfo& info = task.info();
  int64_t count = task.size() == INT64_MAX ? kEndlessItems : task.size();
  if (options.limit >= 0) count = std::min(options.limit, task.size());
  Sha256 hash;
  for (int64_t i = 0; i < count; ++i) {
    run.items.push_back(task.At(i));
    const Item& item = run.items.back();
    std::string text = item.id + '\0' + item.prompt + '\0';
    for (const std::string& choice : item.choices) text += choice + '\0';
    hash.Update(text.data(), text.size());
  }
  TaskResult& result = run.result;
  result.task = info.name;
  result.family = info.family;
  result.level = info.level;
  result.seed = options.seed;
  result.prompt_hash = hash.Hex();
  result.max_tokens = options.max_tokens > 0 ? options.max_tokens : info.max_tokens;
  return run;
}

void AddSamples(Run& run, size_t index, int64_t samples, uint64_t seed) {
  for (size_t i = 0; i < run.items.size(); ++i) {
    for (int64_t s = 0; s < samples; ++s) {
      Sample sample;
      sample.task = index;
      sample.item = i;
      sample.number = s;
      sample.seed = SeedOf(seed, run.result.task, run.items[i].id, s);
      run.samples.push_back(std::move(sample));
    }
  }
}

eval::Grade GradeSample(const Run& run, const Sample& sample, bool strict) {
  if (!sample.completion.error.empty()) {
    return {Verdict::kError, {}, {}, "no answer: " + sample.completion.error};
  }
  return run.task->Judge(run.items[sample.item], sample.completion.text, strict);
}

// Graders may wait for a sandbox, so they run beside each other.
void GradeAll(std::vector<Run>& runs, const std::vector<Sample*>& samples, bool strict) {
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i; (i = next.fetch_add(1)) < samples.size();) {
      Sample& sample = *samples[i];
      if (sample.done) sample.grade = GradeSample(runs[sample.task], sample, strict);
    }
  };
  std::vector<std::thread> threads;
  const size_t wanted = std::min<size_t>(static_cast<size_t>(UsableCores()), samples.size() / 8);
  for (size_t i = 1; i < wanted; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
}

class Evaluation {
 public:
  Evaluation(Backend& backend, const EvalOptions& options) : backend_(backend), options_(options) {}

  Result<std::vector<TaskResult>> Go(const std::vector<std::unique_ptr<Task>>& tasks) {
    for (const auto& task : tasks) runs_.push_back(Prepare(*task, options_));
    for (const Run& run : runs_) total_ += Expected(run);
    Status status;
    // Tasks with the same budget are answered in one batch.
    std::map<int64_t, std::vector<size_t>> batches;
    for (size_t i = 0; i < runs_.size(); ++i) {
      if (Generates(runs_[i])) batches[runs_[i].result.max_tokens].push_back(i);
    }
    for (const auto& [max_tokens, indices] : batches) {
      if (status.ok()) status = Generate(max_tokens, indices);
    }
    for (size_t i = 0; i < runs_.size() && status.ok(); ++i) {
      if (!Generates(runs_[i])) status = ScoreRun(i);
    }
    std::vector<TaskResult> results;
    for (Run& run : runs_) results.push_back(Summary(run));
    TRY(Write(results, status.ok()));  // what was answered before an interrupt is kept
    Show();
    if (!status.ok()) return status.error();
    return results;
  }

 private:
  bool Generates(const Run& run) const {
    const auto kind = run.task->info().kind;
    return kind == TaskInfo::Kind::kGenerate ||
           (kind == TaskInfo::Kind::kChoice && !backend_.can_score());
  }
  int64_t Expected(const Run& run) const {
    const auto items = static_cast<int64_t>(run.items.size());
    return Generates(run) ? items * options_.samples : items;
  }
  bool Advance() {
    ++done_;
    return !options_.progress || options_.progress(done_, total_);
  }

  Status Generate(int64_t max_tokens, const std::vector<size_t>& indices) {
    std::vector<Sample*> samples;
    std::vector<Prompt> prompts;
    for (const size_t index : indices) {
      Run& run = runs_[index];
      AddSamples(run, index, options_.samples, options_.seed);
      for (Sample& sample : run.samples) {
        samples.push_back(&sample);
        prompts.push_back({PromptText(run, run.items[sample.item]), sample.seed});
      }
    }
    Budget budget;
    budget.max_tokens = max_tokens;
    const bool greedy = options_.samples == 1;
    budget.temperature = options_.temperature >= 0 ? options_.temperature : greedy ? 0.0f : 0.6f;
    budget.top_p = budget.temperature > 0 ? 0.95f : 1.0f;
    const auto start = Clock::now();
    const Status status = backend_.Generate(prompts, budget, [&](size_t i, Completion completion) {
      samples[i]->completion = std::move(completion);
      samples[i]->done = true;
      return Advance();
    });
    GradeAll(runs_, samples, options_.strict);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    int64_t tokens = 1;
    for (const Sample* sample : samples) tokens += sample->completion.tokens + 1;
    for (const Sample* sample : samples) {  // shared out by tokens
      runs_[sample->task].result.seconds += seconds *
                                            static_cast<double>(sample->completion.tokens + 1) /
                                            static_cast<double>(tokens);
    }
    return status;
  }

  // A choice for a model that cannot be asked for log-probabilities.
  static std::string PromptText(const Run& run, const Item& item) {
    if (run.task->info().kind != TaskInfo::Kind::kChoice) return item.prompt;
    std::string text = item.prompt;
    for (size_t i = 0; i < item.choices.size(); ++i) {
      text += std::string("\n") + static_cast<char>('A' + i) + ") " + item.choices[i];
    }
    return text + "\nAnswer with the letter alone, as \\boxed{A}.";
  }

  Status ScoreRun(size_t index) {
    Run& run = runs_[index];
    AddSamples(run, index, 1, options_.seed);
    std::vector<Scored> texts;
    for (const Item& item : run.items) {
      for (const std::string& choice : item.choices) texts.push_back({item.prompt, choice});
    }
    const auto start = Clock::now();
    const auto scores = TRY(backend_.ScoreTexts(texts));
    size_t at = 0;
    for (Sample& sample : run.samples) {
      const Item& item = run.items[sample.item];
      const std::span<const eval::Score> own(&scores[at], item.choices.size());
      at += item.choices.size();
      sample.done = true;
      if (run.task->info().kind == TaskInfo::Kind::kText) {
        ScoreText(run, item, own[0], sample);
      } else {
        Choose(item, own, sample);
      }
      if (!Advance()) return Error{Code::kCancelled, "interrupted"};
    }
    run.result.seconds = std::chrono::duration<double>(Clock::now() - start).count();
    return {};
  }

  static void ScoreText(Run& run, const Item& item, const eval::Score& score, Sample& sample) {
    sample.completion.prompt_tokens = score.tokens;
    if (!score.error.empty()) {
      sample.grade = {Verdict::kError, {}, {}, "no score: " + score.error};
      return;
    }
    const double bits = -score.logprob / std::log(2.0);
    run.log2_likelihood += bits;
    run.bytes += static_cast<int64_t>(item.choices[0].size());
    sample.grade.verdict = Verdict::kRight;
    sample.grade.trace =
        std::to_string(bits) + " bits for " + std::to_string(item.choices[0].size()) + " bytes";
  }

  // The choice of the highest log-probability; ties go to the first.
  static void Choose(const Item& item, std::span<const eval::Score> scores, Sample& sample) {
    size_t best = 0, best_per_byte = 0;
    const auto per_byte = [&](size_t i) {
      return scores[i].logprob / std::max<double>(1, static_cast<double>(item.choices[i].size()));
    };
    std::string trace = "log-probabilities";
    for (size_t i = 0; i < scores.size(); ++i) {
      if (!scores[i].error.empty() || scores[i].tokens == 0) {
        sample.grade = {Verdict::kError, {}, {}, "no score: " + scores[i].error};
        return;
      }
      if (scores[i].logprob > scores[best].logprob) best = i;
      if (per_byte(i) > per_byte(best_per_byte)) best_per_byte = i;
      sample.completion.prompt_tokens += scores[i].tokens;
      trace += internal::Concat({" ", std::to_string(scores[i].logprob)});
    }
    const bool right = static_cast<int64_t>(best) == item.gold_choice;
    const std::string letter(1, static_cast<char>('A' + best));
    trace += std::string("; per byte the best is ") + static_cast<char>('A' + best_per_byte);
    sample.grade = {right ? Verdict::kRight : Verdict::kWrong, letter, {}, trace};
  }

  TaskResult Summary(Run& run) const {
    TaskResult& result = run.result;
    std::vector<ItemCount> counts(run.items.size());
    for (const Sample& sample : run.samples) {
      if (!sample.done) continue;
      ++result.samples;
      result.prompt_tokens += sample.completion.prompt_tokens;
      result.tokens += sample.completion.tokens;
      result.truncated += sample.completion.finish == "length" ? 1 : 0;
      if (sample.grade.verdict == Verdict::kError) {
        if (result.errors++ == 0) result.first_error = sample.grade.trace;
        continue;
      }
      ++counts[sample.item].graded;
      if (sample.grade.verdict == Verdict::kRight) {
        ++counts[sample.item].right;
      } else {
        ++result.wrong;
      }
    }
    for (const ItemCount& count : counts) {
      result.n += count.graded > 0 ? 1 : 0;
      result.correct += count.right;
    }
    if (run.task->info().kind == TaskInfo::Kind::kText) {
      result.correct = 0;
      if (run.bytes > 0) {
        result.bits_per_byte = run.log2_likelihood / static_cast<double>(run.bytes);
      }
      return result;
    }
    result.pass1 = PassAt1(counts);
    const Interval interval = PassAt1Interval(counts, options_.seed);
    result.low = interval.low;
    result.high = interval.high;
    for (const int64_t k : options_.pass_k) {
      if (const double value = PassAtK(counts, k); value >= 0) result.pass_k.emplace_back(k, value);
    }
    if (options_.samples > 1 && run.task->info().votes) Vote(run);
    return result;
  }

  // The most frequent answer of an item, the earliest of equals; right when that answer is.
  void Vote(Run& run) const {
    struct Ballot {
      int64_t votes = 0, first = 0;
      bool right = false;
    };
    std::vector<std::map<std::string, Ballot>> items(run.items.size());
    std::vector<bool> graded(run.items.size());
    for (const Sample& sample : run.samples) {
      if (!sample.done || sample.grade.verdict == Verdict::kError) continue;
      graded[sample.item] = true;
      if (sample.grade.key.empty()) continue;
      Ballot& ballot =
          items[sample.item].try_emplace(sample.grade.key, Ballot{0, sample.number}).first->second;
      ++ballot.votes;
      ballot.right |= sample.grade.verdict == Verdict::kRight;
    }
    int64_t won = 0, counted = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      counted += graded[i] ? 1 : 0;
      Ballot best;
      for (const auto& [key, ballot] : items[i]) {
        if (ballot.votes > best.votes ||
            (ballot.votes == best.votes && ballot.first < best.first)) {
          best = ballot;
        }
      }
      won += best.votes > 0 && best.right ? 1 : 0;
    }
    run.result.majority_k = options_.samples;
    run.result.majority = counted > 0 ? static_cast<double>(won) / static_cast<double>(counted) : 0;
  }

  void Show() const {
    if (!options_.seen) return;
    for (const Run& run : runs_) {
      for (const Sample& s : run.samples) {
        if (!s.done) continue;
        options_.seen({run.result.task, run.items[s.item], s.number, s.completion, s.grade});
      }
    }
  }

  Status Write(const std::vector<TaskResult>& results, bool complete) const {
    if (options_.folder.empty() && options_.log.empty()) return {};
    std::string lines;
    for (const Run& run : runs_) {
      for (const Sample& sample : run.samples) {
        if (!sample.done) continue;
        lines += internal::SampleToJson(run.result.task, run.items[sample.item], sample) + '\n';
      }
    }
    if (!options_.log.empty()) TRY(WriteFileAtomic(options_.log, lines));
    if (options_.folder.empty()) return {};
    std::error_code failed;
    std::filesystem::create_directories(options_.folder, failed);
    if (failed) {
      return Error{Code::kIo, options_.folder + ": cannot be made: " + failed.message()};
    }
    TRY(WriteFileAtomic(options_.folder + "/samples.jsonl", lines));
    if (!complete) return {};
    return WriteFileAtomic(options_.folder + "/evaluation.json",
                           ResultsToJson(backend_.name(), results, options_));
  }

  Backend& backend_;
  const EvalOptions& options_;
  std::vector<Run> runs_;
  int64_t done_ = 0, total_ = 0;
};

}  // namespace

std::string_view VerdictName(Verdict verdict) {
  return verdict == Verdict::kRight ? "right" : verdict == Verdict::kWrong ? "wrong" : "error";
}

Result<std::vector<TaskResult>> Evaluate(Backend& backend,
                                         const std::vector<std::unique_ptr<Task>>& tasks,
                                         const EvalOptions& options) {
  if (options.samples < 1 || options.samples > 100'000) {
    return Error{Code::kInvalid,
                 "samples " + std::to_string(options.samples) + ": from 1 to 100000"};
  }
  if (options.max_tokens < 0) return Error{Code::kInvalid, "max_tokens: not negative"};
  return Evaluation(backend, options).Go(tasks);
}

Result<std::vector<TaskResult>> EvaluateBundle(const Bundle& bundle,
                                               const std::vector<std::unique_ptr<Task>>& tasks,
                                               const EvalOptions& options) {
  const auto backend = TRY(OpenEngineBackend(bundle, options.engine));
  return Evaluate(*backend, tasks, options);
}

}  // namespace hadal::eval
