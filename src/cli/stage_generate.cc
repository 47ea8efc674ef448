// The recipe stage that lets a teacher write the data: answers to problems, kept when right, or to
// the questions of given conversations.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "base/file.h"
#include "cli/recipe.h"
#include "data/conversation.h"
#include "data/problems.h"
#include "data/source.h"
#include "eval/backend.h"
#include "infer/bundle.h"

namespace hadal::cli {
namespace {

using Json = nlohmann::json;

std::string Dump(const Json& j) { return j.dump(-1, ' ', false, Json::error_handler_t::replace); }

struct GenerateStage {
  std::string model;
  std::vector<std::string> prompts;  // files of conversations; empty: problems
  ProblemMix mix;
  int64_t items = 0, samples = 1;  // 0 items: all
  bool only_right = true, only_ended = true;
  eval::Budget budget;
};

Result<GenerateStage> ReadGenerate(const StageCall& call) {
  ConfigTable& t = call.table;
  GenerateStage s;
  s.model = TRY(call.run.ResolveModel(t, "model", TRY(t.Text("model"))));
  for (const std::string& path : TRY(t.Texts("prompts"))) {
    s.prompts.push_back(TRY(call.run.Resolve(t, "prompts", path)));
  }
  if (s.prompts.empty()) {
    s.mix = TRY(ReadMix(call));
    s.items = TRY(t.Integer("items", 1, int64_t{1} << 32));
  } else {
    s.mix.seed = static_cast<uint64_t>(
        TRY(t.Integer("seed", 0, int64_t{1} << 40, static_cast<int64_t>(call.run.seed))));
    s.items = TRY(t.Integer("items", 1, int64_t{1} << 32, int64_t{1} << 32));
  }
  s.samples = TRY(t.Integer("samples", 1, 4096, 1));
  s.only_right = TRY(t.Flag("only_right", s.prompts.empty()));
  if (s.only_right && !s.prompts.empty()) {
    return t.At("only_right", "the answers to `prompts` cannot be verified; set it to false");
  }
  s.only_ended = TRY(t.Flag("only_ended", true));
  s.budget.max_tokens = TRY(t.Integer("max_tokens", 1, 1 << 20, 512));
  s.budget.temperature = static_cast<float>(TRY(t.Number("temperature", 0, 10, 0.6)));
  s.budget.top_p = static_cast<float>(TRY(t.Number("top_p", 0, 1, 0.95)));
  TRY(t.Finish());
  return s;
}

// What the teacher is asked.
struct Question {
  Json messages;
  std::optional<Problem> problem;  // whose verifier may judge the answer
};

class Questions {
 public:
  explicit Questions(const GenerateStage& stage) : stage_(stage) {
    if (stage.prompts.empty()) problems_.emplace(stage.mix, Split::kTrain);
  }
  // Nothing at the end.
  Result<std::optional<Question>> Next();

 private:
  Result<std::optional<Question>> NextRow();

  const GenerateStage& stage_;
  std::optional<ProblemCycle> problems_;
  size_t file_ = 0;
  std::optional<LineSource> lines_;
  int64_t given_ = 0;
};

Result<std::optional<Question>> Questions::Next() {
  if (given_ == stage_.items) return std::optional<Question>();
  ++given_;
  if (!problems_) return NextRow();
  Question q;
  q.problem = problems_->Next();
  q.messages = Json::array({{{"role", "user"}, {"content", q.problem->prompt}}});
  return std::optional(std::move(q));
}

// A conversation up to its last question.
Result<std::optional<Question>> Questions::NextRow() {
  std::string line;
  while (file_ < stage_.prompts.size()) {
    if (!lines_) lines_ = TRY(LineSource::Open(stage_.prompts[file_]));
    if (!TRY(lines_->Next(&line))) {
      lines_.reset();
      ++file_;
      continue;
    }
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    const auto at = [&](const std::string& what) {
      return Error{Code::kInvalid,
                   fmt::format("{}:{}: {}", stage_.prompts[file_], lines_->line_number(), what)};
    };
    auto messages = ParseConversation(line);
    if (!messages.ok()) return at(messages.error().message);
    while (!messages->empty() && messages->back().role != "user") messages->pop_back();
    if (messages->empty()) return at("no user message");
    Question q;
    q.messages = Json::array();
    for (const ChatMessage& m : *messages) {
      q.messages.push_back({{"role", m.role}, {"content", m.content}});
      if (!m.reasoning_content.empty()) {
        q.messages.back()["reasoning_content"] = m.reasoning_content;
      }
    }
    return std::optional(std::move(q));
  }
  return std::optional<Question>();
}

// The conversation that a completion makes of its question; empty when it says nothing. A thought
// that was opened and never closed is a thought without an answer.
std::string Conversation(const Question& question, std::string_view text) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  const auto trimmed = [](std::string_view part) {
    const size_t begin = part.find_first_not_of("\n");
    if (begin == std::string_view::npos) return std::string();
    return std::string(part.substr(begin, part.find_last_not_of("\n") - begin + 1));
  };
  const bool opened = text.starts_with(kOpen);
  if (opened) text.remove_prefix(kOpen.size());
  std::string thought;
  const size_t end = text.rfind(kClose);
  if (end != std::string_view::npos) {
    thought = trimmed(text.substr(0, end));
    text.remove_prefix(end + kClose.size());
  } else if (opened) {
    thought = trimmed(text);
    text = {};
  }
  const std::string content = trimmed(text);
  if (thought.empty() && content.empty()) return {};
  Json messages = question.messages;
  messages.push_back({{"role", "assistant"}, {"reasoning_content", thought}, {"content", content}});
  return Dump(Json{{"messages", std::move(messages)}}) + "\n";
}

struct Counts {
  int64_t answers = 0, kept = 0, failed = 0, tokens = 0;
};

// Answers to some questions, in their order.
Status Answer(const StageCall& call, const GenerateStage& s, eval::Backend& backend,
              std::span<const Question> questions, AtomicFile& out, Counts& counts) {
  const auto samples = static_cast<size_t>(s.samples);
  std::vector<eval::Prompt> prompts;
  for (const Question& q : questions) {
    const std::string messages = Dump(q.messages);
    for (size_t j = 0; j < samples; ++j) {
      prompts.push_back({{}, s.mix.seed + static_cast<uint64_t>(counts.answers++), messages});
    }
  }
  std::vector<std::string> rows(prompts.size());
  TRY(backend.Generate(prompts, s.budget, [&](size_t i, eval::Completion completion) {
    const Question& q = questions[i / samples];
    counts.tokens += completion.tokens;
    counts.failed += completion.error.empty() ? 0 : 1;
    const bool right = completion.error.empty() && (!s.only_ended || completion.finish == "stop") &&
                       (!s.only_right || Grade(*q.problem, completion.text) == Verdict::kRight);
    if (right) rows[i] = Conversation(q, completion.text);
    return !call.run.options.interrupted || !call.run.options.interrupted();
  }));
  for (const std::string& row : rows) {
    counts.kept += row.empty() ? 0 : 1;
    TRY(out.Write(row));
  }
  return {};
}

}  // namespace

// Leaves train.jsonl, conversations in the teacher's words, and generate.json, how many were kept.
Status RunGenerate(const StageCall& call) {
  const GenerateStage s = TRY(ReadGenerate(call));
  if (call.check_only) return {};
  const Bundle bundle = TRY(LoadBundle(call.run.exec, s.model));
  const auto backend = TRY(eval::OpenEngineBackend(bundle, {}));
  AtomicFile out = TRY(AtomicFile::Create(call.folder + "/train.jsonl"));
  constexpr size_t kAtOnce = 1024;  // questions in memory
  Questions source(s);
  Counts counts;
  while (true) {
    std::vector<Question> questions;
    while (questions.size() < kAtOnce) {
      std::optional<Question> q = TRY(source.Next());
      if (!q) break;
      questions.push_back(std::move(*q));
    }
    if (questions.empty()) break;
    TRY(Answer(call, s, *backend, questions, out, counts));
  }
  if (counts.kept == 0) {
    return Error{Code::kInvalid,
                 fmt::format("{}: none of its {} answers was kept; is the teacher good enough, and "
                             "max_tokens long enough?",
                             s.model, counts.answers)};
  }
  TRY(out.Commit());
  return WriteFileAtomic(call.folder + "/generate.json", Json{{"answers", counts.answers},
                                                              {"kept", counts.kept},
                                                              {"failed", counts.failed},
                                                              {"tokens", counts.tokens}}
                                                                 .dump(2) +
                                                             "\n");
}

}  // namespace hadal::cli
