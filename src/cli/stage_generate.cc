// The recipe stage that lets a teacher write the data: answers to problems, kept when right.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "cli/recipe.h"
#include "data/problems.h"
#include "eval/backend.h"
#include "infer/bundle.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::json;

struct GenerateStage {
  std::string model;
  ProblemMix mix;
  int64_t items = 0, samples = 1;
  bool only_right = true;
  eval::Budget budget;
};

Result<GenerateStage> ReadGenerate(const StageCall& call) {
  ConfigTable& t = call.table;
  GenerateStage s;
  s.model = TRY(call.run.ResolveModel(t, "model", TRY(t.Text("model"))));
  s.mix = TRY(ReadMix(call));
  s.items = TRY(t.Integer("items", 1, int64_t{1} << 32));
  s.samples = TRY(t.Integer("samples", 1, 4096, 1));
  s.only_right = TRY(t.Flag("only_right", true));
  s.budget.max_tokens = TRY(t.Integer("max_tokens", 1, 1 << 20, 512));
  s.budget.temperature = static_cast<float>(TRY(t.Number("temperature", 0, 10, 0.6)));
  s.budget.top_p = static_cast<float>(TRY(t.Number("top_p", 0, 1, 0.95)));
  TRY(t.Finish());
  return s;
}

// The conversation that a completion makes of a problem's prompt.
std::string Conversation(const Problem& problem, const std::string& completion) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  const auto trimmed = [](std::string_view text) {
    const size_t begin = text.find_first_not_of("\n");
    if (begin == std::string_view::npos) return std::string();
    return std::string(text.substr(begin, text.find_last_not_of("\n") - begin + 1));
  };
  std::string_view text = completion;
  std::string thought;
  if (const size_t end = text.rfind(kClose); end != std::string_view::npos) {
    std::string_view inside = text.substr(0, end);
    if (inside.starts_with(kOpen)) inside.remove_prefix(kOpen.size());
    thought = trimmed(inside);
    text.remove_prefix(end + kClose.size());
  }
  const Json user = {{"role", "user"}, {"content", problem.prompt}};
  const Json assistant = {
      {"role", "assistant"}, {"reasoning_content", thought}, {"content", trimmed(text)}};
  return Json{{"messages", {user, assistant}}}.dump(-1, ' ', false,
                                                    Json::error_handler_t::replace) +
         "\n";
}

}  // namespace

// Leaves train.jsonl, conversations in the teacher's words, and generate.json, how many were kept.
Status RunGenerate(const StageCall& call) {
  const GenerateStage s = TRY(ReadGenerate(call));
  if (call.check_only) return {};
  const Bundle bundle = TRY(LoadBundle(call.run.exec, s.model));
  const auto backend = TRY(eval::OpenEngineBackend(bundle, {}));
  ProblemCycle cycle(s.mix, Split::kTrain);
  AtomicFile out = TRY(AtomicFile::Create(call.folder + "/train.jsonl"));
  constexpr int64_t kAtOnce = 1024;  // prompts in memory
  int64_t kept = 0, tokens = 0, failed = 0;
  for (int64_t done = 0; done < s.items; done += kAtOnce) {
    std::vector<Problem> problems;
    std::vector<eval::Prompt> prompts;
    for (int64_t i = done; i < std::min(s.items, done + kAtOnce); ++i) {
      problems.push_back(cycle.Next());
      for (int64_t j = 0; j < s.samples; ++j) {
        const auto seed = static_cast<uint64_t>(i * s.samples + j);
        prompts.push_back({problems.back().prompt, s.mix.seed + seed});
      }
    }
    std::vector<std::string> rows(prompts.size());
    TRY(backend->Generate(prompts, s.budget, [&](size_t i, eval::Completion completion) {
      const Problem& problem = problems[i / static_cast<size_t>(s.samples)];
      tokens += completion.tokens;
      failed += completion.error.empty() ? 0 : 1;
      const bool right = completion.error.empty() && completion.finish == "stop" &&
                         (!s.only_right || Grade(problem, completion.text) == Verdict::kRight);
      if (right) rows[i] = Conversation(problem, completion.text);
      return !call.run.options.interrupted || !call.run.options.interrupted();
    }));
    for (const std::string& row : rows) {
      if (row.empty()) continue;
      ++kept;
      TRY(out.Write(row));
    }
  }
  if (kept == 0) {
    return Error{Code::kInvalid, s.model +
                                     ": none of its answers was kept; is the teacher good "
                                     "enough, and max_tokens long enough?"};
  }
  TRY(out.Commit());
  return WriteFileAtomic(
      call.folder + "/generate.json",
      Json{{"answers", s.items * s.samples}, {"kept", kept}, {"failed", failed}, {"tokens", tokens}}
              .dump(2) +
          "\n");
}

}  // namespace hadal::cli
