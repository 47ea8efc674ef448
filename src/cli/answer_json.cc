#include "cli/answer_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace hadal::cli {
namespace {

using nlohmann::json;

json ParamsToJson(const Request& r) {
  const SamplingParams& s = r.sampling;
  return {{"temperature", s.temperature},
          {"top_p", s.top_p},
          {"top_k", s.top_k},
          {"min_p", s.min_p},
          {"repetition_penalty", s.repetition_penalty},
          {"frequency_penalty", s.frequency_penalty},
          {"presence_penalty", s.presence_penalty},
          {"seed", s.seed},
          {"max_tokens", r.max_tokens},
          {"stop", r.stop_strings},
          {"stop_ids", r.stop_ids},
          {"ignore_eos", r.ignore_eos}};
}

json LogprobsToJson(const Bundle& bundle, const Answer& answer) {
  json list = json::array();
  for (const SampledToken& t : answer.tokens) {
    json top = json::array();
    for (const auto& candidate : t.top) {
      top.push_back({{"id", candidate.id},
                     {"token", bundle.tokenizer->Piece(candidate.id)},
                     {"logprob", candidate.logprob}});
    }
    list.push_back({{"id", t.id},
                    {"token", bundle.tokenizer->Piece(t.id)},
                    {"logprob", t.logprob},
                    {"top", std::move(top)}});
  }
  return list;
}

// Thought and answer apart, where the model thinks.
void AddParts(const Bundle& bundle, const Request& request, const Answer& answer, json& out) {
  if (!bundle.thought_tags) return;
  ThoughtSplitter splitter(*bundle.tokenizer, bundle.thought_tags, request.prompt);
  std::string parts[2];
  const auto add = [&](const std::vector<ThoughtSplitter::Piece>& pieces) {
    for (const auto& p : pieces) parts[static_cast<size_t>(p.part)] += p.text;
  };
  for (const auto& t : answer.tokens) add(splitter.Push(t.id));
  add(splitter.Finish());
  out["thinking"] = parts[static_cast<size_t>(ThoughtSplitter::Part::kThought)];
  out["answer"] = parts[static_cast<size_t>(ThoughtSplitter::Part::kAnswer)];
}

class Reader {
 public:
  explicit Reader(const json& object) : object_(object) {}

  template <typename T>
  Status Number(const char* name, T& out) const {
    const auto it = object_.find(name);
    if (it == object_.end() || !it->is_number()) return Missing(name, "a number");
    if (std::is_integral_v<T> && !it->is_number_integer()) return Missing(name, "a whole number");
    out = it->template get<T>();
    return {};
  }
  Status Bool(const char* name, bool& out) const {
    const auto it = object_.find(name);
    if (it == object_.end() || !it->is_boolean()) return Missing(name, "true or false");
    out = it->get<bool>();
    return {};
  }
  Status Ids(const char* name, std::vector<int32_t>& out) const {
    const auto it = object_.find(name);
    if (it == object_.end() || !it->is_array()) return Missing(name, "a list of token ids");
    for (const json& id : *it) {
      if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() > INT32_MAX) {
        return Missing(name, "a list of token ids");
      }
      out.push_back(id.get<int32_t>());
    }
    return {};
  }
  Status Texts(const char* name, std::vector<std::string>& out) const {
    const auto it = object_.find(name);
    if (it == object_.end() || !it->is_array()) return Missing(name, "a list of texts");
    for (const json& text : *it) {
      if (!text.is_string()) return Missing(name, "a list of texts");
      out.push_back(text.get<std::string>());
    }
    return {};
  }

 private:
  static Error Missing(const char* name, const char* what) {
    return {Code::kInvalid, fmt::format("replay: '{}' is not {}: the file must come from hadal "
                                        "complete --json",
                                        name, what)};
  }
  const json& object_;
};

}  // namespace

std::string AnswerToJson(const Bundle& bundle, int64_t context, const Request& request,
                         const Answer& answer, std::string_view text) {
  json out = {{"model", bundle.name},
              {"text", text},
              {"finish_reason", FinishReasonName(answer.finish)},
              {"prompt_ids", request.prompt},
              {"ids", answer.ids()},
              {"params", ParamsToJson(request)},
              {"context", context},
              {"timings",
               {{"prompt_tokens", answer.prompt_tokens},
                {"cached_tokens", answer.cached_tokens},
                {"generated_tokens", answer.tokens.size()},
                {"first_token_seconds", answer.first_seconds},
                {"seconds", answer.seconds},
                {"tokens_per_second", answer.tokens_per_second()}}}};
  if (request.sampling.top_logprobs >= 0) out["logprobs"] = LogprobsToJson(bundle, answer);
  AddParts(bundle, request, answer, out);
  return out.dump(2, ' ', false, json::error_handler_t::replace);
}

Result<Replay> ParseReplay(std::string_view json_text) {
  const json j = json::parse(json_text, nullptr, false);
  if (!j.is_object() || !j.contains("params") || !j["params"].is_object()) {
    return Error{Code::kInvalid, "replay: not the JSON of hadal complete --json"};
  }
  Replay replay;
  if (j.contains("model") && j["model"].is_string()) replay.model = j["model"];
  const Reader top(j), params(j["params"]);
  SamplingParams& s = replay.request.sampling;
  TRY(top.Number("context", replay.context));
  TRY(top.Ids("prompt_ids", replay.request.prompt));
  TRY(top.Ids("ids", replay.ids));
  TRY(params.Number("temperature", s.temperature));
  TRY(params.Number("top_p", s.top_p));
  TRY(params.Number("top_k", s.top_k));
  TRY(params.Number("min_p", s.min_p));
  TRY(params.Number("repetition_penalty", s.repetition_penalty));
  TRY(params.Number("frequency_penalty", s.frequency_penalty));
  TRY(params.Number("presence_penalty", s.presence_penalty));
  TRY(params.Number("seed", s.seed));
  TRY(params.Number("max_tokens", replay.request.max_tokens));
  TRY(params.Texts("stop", replay.request.stop_strings));
  TRY(params.Ids("stop_ids", replay.request.stop_ids));
  TRY(params.Bool("ignore_eos", replay.request.ignore_eos));
  return replay;
}

}  // namespace hadal::cli
