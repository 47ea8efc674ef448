// A model ready to answer, and one answer: what chat, complete, verify and bench share.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/flags.h"
#include "infer/bundle.h"
#include "infer/engine.h"

namespace hadal::cli {

// Members outlive each other in the order written.
struct Session {
  std::string path;
  std::unique_ptr<Exec> exec;
  Bundle bundle;
  std::unique_ptr<Engine> engine;
};
// The path of flags.model; the default model, pulled first when it is not here, when empty.
Result<std::string> FindModel(const std::string& model);
Result<std::unique_ptr<Exec>> MakeExec(int threads);
Result<std::unique_ptr<Session>> OpenSession(const ModelFlags& flags, int64_t max_sequences = 1);
// The context that flags ask of a model: 0 is the model's own, at most kDefaultContext.
int64_t ChooseContext(int64_t asked, const ModelConfig& config);

struct Answer {
  std::vector<SampledToken> tokens;
  FinishReason finish = FinishReason::kNone;
  int64_t prompt_tokens = 0, cached_tokens = 0;
  int64_t stop_bytes = 0;    // trailing bytes of the text that are not to be shown
  double first_seconds = 0;  // until the first token
  double seconds = 0;        // in all

  std::vector<int32_t> ids() const;
  double tokens_per_second() const;  // of the tokens after the first
};
// Runs one request to its end. on_token sees each id as it comes; false stops the answer
// (kCancelled). A request that fails is an error.
Result<Answer> Generate(Engine& engine, Request request,
                        const std::function<bool(const SampledToken&)>& on_token);

// Text that may yet be taken back by a stop string is held: Push returns what is certain.
class HeldText {
 public:
  explicit HeldText(const std::vector<std::string>& stop_strings);
  std::string Push(std::string_view text);
  std::string Finish(int64_t drop_bytes);

 private:
  size_t longest_ = 0;
  std::string held_;
};

}  // namespace hadal::cli
