// What answers prompts: the engine on a loaded model, or an OpenAI-style endpoint.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "infer/bundle.h"

namespace hadal::eval {

struct Prompt {
  std::string text = {};  // the user's message
  uint64_t seed = 0;
  std::string messages = {};  // JSON list of the conversation so far, in place of `text`
};

struct Budget {
  int64_t max_tokens = 1024;
  float temperature = 0, top_p = 1;
};

struct Completion {
  std::string text =
      {};  // thoughts and their tags included; "<think>" first when the prompt opened it
  std::string finish = {};  // "stop", "length", "context", "error", ...
  std::string error = {};   // nonempty: there is no answer, and the grade is Verdict::kError
  int64_t prompt_tokens = 0, tokens = 0;
  std::string prompt_hash = {};  // SHA-256 of what the model was given, where that is known
};

// Text whose bytes are predicted after `context`.
struct Scored {
  std::string context = {}, text = {};
};
struct Score {
  double logprob = 0;  // of the text's tokens, natural logarithm
  int64_t tokens = 0;
  std::string error = {};
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;  // of the model
  // done(i, completion) is called once for each prompt, in any order, from one thread at a time; it
  // returns false to stop (the error is then kCancelled). Failures of one prompt are in its
  // completion.
  using Done = std::function<bool(size_t, Completion)>;
  virtual Status Generate(std::span<const Prompt> prompts, const Budget& budget,
                          const Done& done) = 0;
  virtual bool can_score() const = 0;
  // Log-probabilities of texts, in order. Errors: kUnsupported where the backend has none.
  virtual Result<std::vector<Score>> ScoreTexts(std::span<const Scored> texts) = 0;
};

struct EngineBackendOptions {
  int64_t max_sequences = 32;  // answered at once
  int64_t context = 0;  // tokens a prompt and its answer may hold; 0: the model's, at most 8192
  bool raw_prompts = false;  // the texts as they are, in no chat's form
};
// bundle outlives it. Prompts are rendered by the bundle's chat template.
Result<std::unique_ptr<Backend>> OpenEngineBackend(const Bundle& bundle,
                                                   const EngineBackendOptions& options);
// The same on a model that someone else holds, such as one in training; its weights may change
// between calls of Generate and ScoreTexts. Of `bundle` all but the model is used.
Result<std::unique_ptr<Backend>> OpenEngineBackend(const Bundle& bundle, Model& model,
                                                   const EngineBackendOptions& options);

struct EndpointOptions {
  std::string url = {};  // "http://host:8000/v1": /chat/completions is put after it
  std::string model = {};
  std::string key =
      {};  // bearer token, never sent over plain HTTP except to this machine; or empty
  int concurrency = 4;
  int attempts = 3;  // of a request that fails by network, 429 or 5xx
  int64_t timeout_seconds = 600;
};
Result<std::unique_ptr<Backend>> OpenEndpointBackend(const EndpointOptions& options);

}  // namespace hadal::eval
