// Prompts through the engine: all of them are handed over at once, and it batches.
#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>

#include "base/hash.h"
#include "eval/backend.h"
#include "infer/engine.h"

namespace hadal::eval {
namespace {

using nlohmann::json;

constexpr int64_t kDefaultContext = 8192;
constexpr size_t kMostWaiting = 256;  // submitted beyond those that run: bounds their memory

std::string HashIds(const std::vector<int32_t>& ids) {
  Sha256 hash;
  hash.Update(ids.data(), ids.size() * sizeof(int32_t));
  return hash.Hex();
}

class EngineBackend : public Backend {
 public:
  EngineBackend(const Bundle& bundle, Model& model, const EngineBackendOptions& options)
      : bundle_(bundle), model_(model), options_(options), stop_ids_(bundle.eos_ids) {
    // The bundle may be of another model with this one's tokenizer.
    std::erase_if(stop_ids_, [&](int32_t id) { return id >= model.config().vocab; });
  }

  std::string name() const override { return bundle_.name; }
  bool can_score() const override { return true; }

  Status Generate(std::span<const Prompt> prompts, const Budget& budget,
                  const Done& done) override {
    std::vector<std::vector<int32_t>> rendered;
    int64_t longest = 0;
    for (const Prompt& prompt : prompts) {
      rendered.push_back(TRY(Render(prompt)));
      longest = std::max(longest, static_cast<int64_t>(rendered.back().size()));
    }
    const auto engine = TRY(NewEngine(longest + budget.max_tokens, prompts.size()));
    std::map<RequestId, Running> running;
    size_t next = 0;
    while (next < prompts.size() || !running.empty()) {
      while (next < prompts.size() &&
             running.size() < kMostWaiting + static_cast<size_t>(options_.max_sequences)) {
        const size_t index = next++;
        if (!Start(*engine, prompts[index], rendered[index], budget, index, running, done)) {
          return Stopped();
        }
      }
      for (const StepOutput& out : engine->Step()) {
        const auto it = running.find(out.id);
        if (it == running.end()) continue;
        for (const SampledToken& token : out.tokens) it->second.ids.push_back(token.id);
        if (out.finish == FinishReason::kNone) continue;
        const size_t index = it->second.index;
        Completion completion = Finish(rendered[index], it->second, out);
        running.erase(it);
        if (!done(index, std::move(completion))) return Stopped();
      }
    }
    return {};
  }

  Result<std::vector<Score>> ScoreTexts(std::span<const Scored> texts) override {
    std::vector<Score> scores(texts.size());
    std::vector<Parts> parts;
    int64_t longest = 0;
    for (const Scored& text : texts) {
      parts.push_back(Cut(text));
      longest = std::max(longest, static_cast<int64_t>(parts.back().ids.size()));
    }
    const auto engine = TRY(NewEngine(longest + 1, texts.size()));
    std::map<RequestId, size_t> running;
    for (size_t next = 0; next < texts.size() || !running.empty();) {
      for (; next < texts.size() && running.size() < kMostWaiting; ++next) {
        Request request;
        request.prompt = parts[next].ids;
        request.max_tokens = 0;
        request.prompt_logprobs = true;
        auto id = engine->Submit(std::move(request));
        if (id.ok()) {
          running[*id] = next;
        } else {
          scores[next].error = id.error().message;
        }
      }
      for (const StepOutput& out : engine->Step()) {
        const auto it = running.find(out.id);
        if (it == running.end()) continue;
        Sum(parts[it->second], out, scores[it->second]);
        if (out.finish != FinishReason::kNone) running.erase(it);
      }
    }
    return scores;
  }

 private:
  struct Running {
    size_t index = 0;
    std::vector<int32_t> ids;
  };
  struct Parts {
    std::vector<int32_t> ids;
    size_t scored = 0;  // the last so many
  };

  static Error Stopped() { return {Code::kCancelled, "interrupted"}; }

  Result<std::vector<int32_t>> Render(const Prompt& prompt) const {
    if (!prompt.messages.empty()) return RenderChat(bundle_, prompt.messages, true);
    if (options_.raw_prompts) return bundle_.tokenizer->EncodePrompt(prompt.text, {});
    const json messages = json::array({{{"role", "user"}, {"content", prompt.text}}});
    return RenderChat(bundle_, messages.dump(-1, ' ', false, json::error_handler_t::replace), true);
  }

  Result<std::unique_ptr<Engine>> NewEngine(int64_t wanted, size_t requests) const {
    const int64_t model = model_.config().context;
    const int64_t most =
        options_.context > 0 ? std::min(options_.context, model) : std::min(model, kDefaultContext);
    EngineOptions options;
    options.context = std::clamp<int64_t>(wanted, 1, most);
    options.max_sequences =
        std::clamp<int64_t>(static_cast<int64_t>(requests), 1, options_.max_sequences);
    return Engine::Create(model_, bundle_.tokenizer.get(), options);
  }

  // False when `done` asks to stop; a request that the engine refuses is a completion with an
  // error.
  bool Start(Engine& engine, const Prompt& prompt, const std::vector<int32_t>& ids,
             const Budget& budget, size_t index, std::map<RequestId, Running>& running,
             const Done& done) const {
    Request request;
    request.prompt = ids;
    request.max_tokens = budget.max_tokens;
    request.stop_ids = stop_ids_;
    request.sampling.temperature = budget.temperature;
    request.sampling.top_p = budget.top_p;
    request.sampling.seed = prompt.seed;
    auto id = engine.Submit(std::move(request));
    if (id.ok()) {
      running[*id].index = index;
      return true;
    }
    Completion refused;
    refused.finish = "error";
    refused.error = id.error().message;
    return done(index, std::move(refused));
  }

  Completion Finish(const std::vector<int32_t>& prompt, const Running& run,
                    const StepOutput& out) const {
    Completion completion;
    completion.finish = FinishReasonName(out.finish);
    completion.error = out.error;
    completion.prompt_tokens = static_cast<int64_t>(prompt.size());
    completion.tokens = static_cast<int64_t>(run.ids.size());
    completion.prompt_hash = HashIds(prompt);
    std::span<const int32_t> ids = run.ids;
    if (out.finish == FinishReason::kStopId && !ids.empty()) ids = ids.first(ids.size() - 1);
    // R1's template opens the thought itself.
    const ThoughtSplitter splitter(*bundle_.tokenizer, bundle_.thought_tags, prompt);
    if (bundle_.thought_tags && splitter.thinking()) completion.text = "<think>";
    // Tags of thoughts are often control tokens, so none is skipped.
    StreamDecoder decoder(*bundle_.tokenizer, false);
    for (const int32_t id : ids) completion.text += decoder.Push(id);
    completion.text += decoder.Flush();
    return completion;
  }

  // The context's tokens and the text's: the whole is encoded, and the context counts as long as
  // its tokens are a beginning of it.
  Parts Cut(const Scored& scored) const {
    Parts parts;
    const Tokenizer& tokenizer = *bundle_.tokenizer;
    const auto context = tokenizer.EncodePrompt(scored.context, {});
    parts.ids = tokenizer.EncodePrompt(scored.context + scored.text, {});
    size_t common = 0;
    while (common < context.size() && common < parts.ids.size() &&
           context[common] == parts.ids[common]) {
      ++common;
    }
    // Without a context, BOS or another end-of-text token stands before the first scored one.
    if (common == 0 && !parts.ids.empty()) {
      const auto start = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
      if (start) {
        parts.ids.insert(parts.ids.begin(), *start);
        common = 1;
      }
    }
    parts.scored = parts.ids.size() - std::max<size_t>(common, parts.ids.empty() ? 0 : 1);
    return parts;
  }

  static void Sum(const Parts& parts, const StepOutput& out, Score& score) {
    if (!out.error.empty()) score.error = out.error;
    const auto& all = out.prompt_logprobs;
    const size_t first = all.size() > parts.scored ? all.size() - parts.scored : 0;
    for (size_t i = first; i < all.size(); ++i) {
      score.logprob += static_cast<double>(all[i]);
      ++score.tokens;
    }
  }

  const Bundle& bundle_;
  Model& model_;
  EngineBackendOptions options_;
  std::vector<int32_t> stop_ids_;
};

}  // namespace

Result<std::unique_ptr<Backend>> OpenEngineBackend(const Bundle& bundle,
                                                   const EngineBackendOptions& options) {
  if (!bundle.model) return Error{Code::kInvalid, "evaluation needs a model with its tokenizer"};
  return OpenEngineBackend(bundle, *bundle.model, options);
}

Result<std::unique_ptr<Backend>> OpenEngineBackend(const Bundle& bundle, Model& model,
                                                   const EngineBackendOptions& options) {
  if (!bundle.tokenizer) {
    return Error{Code::kInvalid, "evaluation needs a model with its tokenizer"};
  }
  if (options.max_sequences < 1 || options.context < 0) {
    return Error{Code::kInvalid, "evaluation: max_sequences from 1, context from 0"};
  }
  return std::unique_ptr<Backend>(std::make_unique<EngineBackend>(bundle, model, options));
}

}  // namespace hadal::eval
