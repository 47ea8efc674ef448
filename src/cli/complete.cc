// hadal complete: one prompt, one answer.
#include <fmt/format.h>

#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/terminal.h"
#include "cli/answer_json.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/session.h"

namespace hadal::cli {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxPromptBytes = 64 << 20;

struct Flags {
  ModelFlags model;
  SamplingFlags sampling;
  std::string prompt, file, system;
  std::vector<std::string> stop;
  int logprobs = -1;
  bool raw = false, json = false, verbose = false, ignore_eos = false;
};

Result<std::string> ReadPrompt(const Flags& flags) {
  if (!flags.prompt.empty() && flags.prompt != "-") return flags.prompt;
  if (!flags.file.empty()) return ReadFile(flags.file, kMaxPromptBytes);
  if (flags.prompt.empty() && IsTerminal(0)) {
    return Error{Code::kInvalid, "no prompt: give it as an argument, with --file or on stdin"};
  }
  return ReadFile("/dev/stdin", kMaxPromptBytes);
}

Result<std::vector<int32_t>> Encode(const Flags& flags, const Bundle& bundle,
                                    const std::string& prompt) {
  if (flags.raw) return bundle.tokenizer->EncodePrompt(prompt, {});
  json messages = json::array();
  if (!flags.system.empty()) messages.push_back({{"role", "system"}, {"content", flags.system}});
  messages.push_back({{"role", "user"}, {"content", prompt}});
  return RenderChat(bundle, messages.dump(-1, ' ', false, json::error_handler_t::replace), true);
}

void PrintStats(const Answer& answer) {
  fmt::print(stderr,
             "\n{} prompt tokens ({} cached), first token after {:.3f} s; {} tokens, {:.1f} "
             "tok/s; end: {}\n",
             answer.prompt_tokens, answer.cached_tokens, answer.first_seconds, answer.tokens.size(),
             answer.tokens_per_second(), FinishReasonName(answer.finish));
}

Status Run(const Flags& flags) {
  const std::string prompt = TRY(ReadPrompt(flags));
  const auto session = TRY(OpenSession(flags.model));
  const Bundle& bundle = session->bundle;
  Request request;
  request.prompt = TRY(Encode(flags, bundle, prompt));
  if (request.prompt.empty()) return Error{Code::kInvalid, "the prompt is empty"};
  request.sampling = ApplyFlags(flags.sampling, bundle.default_sampling);
  request.sampling.top_logprobs = flags.logprobs;
  request.max_tokens = flags.sampling.max_tokens;
  request.stop_strings = flags.stop;
  request.ignore_eos = flags.ignore_eos;
  if (!flags.ignore_eos) request.stop_ids = bundle.eos_ids;

  StreamDecoder decoder(*bundle.tokenizer);
  HeldText held(flags.stop);
  const bool terminal = IsTerminal(1);
  std::string text;
  const auto show = [&](const std::string& piece) {
    text += piece;
    if (flags.json) return;
    const std::string safe = terminal ? Printable(piece) : piece;
    fwrite(safe.data(), 1, safe.size(), stdout);
    fflush(stdout);
  };
  const InterruptGuard guard;
  const auto on_token = [&](const SampledToken& token) {
    show(held.Push(decoder.Push(token.id)));
    return !InterruptGuard::interrupted() && !ferror(stdout);
  };
  const Request submitted = request;
  const Answer answer = TRY(Generate(*session->engine, std::move(request), on_token));
  show(held.Push(decoder.Flush()));
  show(held.Finish(answer.stop_bytes));
  if (flags.json) {
    fmt::print("{}\n", AnswerToJson(bundle, session->engine->context(), submitted, answer, text));
  } else if (text.empty() || text.back() != '\n') {
    fputc('\n', stdout);
  }
  if (flags.verbose) PrintStats(answer);
  if (answer.finish == FinishReason::kCancelled) return Error{Code::kCancelled, "interrupted"};
  return {};
}

}  // namespace

void AddComplete(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = app.add_subcommand("complete", "Answer one prompt");
  verb->add_option("prompt", flags->prompt, "The prompt; - or nothing: standard input");
  verb->add_option("-f,--file", flags->file, "Read the prompt from a file");
  verb->add_option("--system", flags->system, "A system message before it");
  verb->add_flag("--raw", flags->raw, "Continue the text itself: no chat template");
  AddModelFlags(*verb, flags->model);
  AddSamplingFlags(*verb, flags->sampling);
  verb->add_option("--stop", flags->stop, "End at this text; may be given several times");
  verb->add_option("--logprobs", flags->logprobs,
                   "With --json: log-probabilities of the chosen and that many best tokens")
      ->check(Range(0, 128));
  verb->add_flag("--ignore-eos", flags->ignore_eos, "Go on past the model's own end");
  verb->add_flag("-v,--verbose", flags->verbose, "Timings on stderr");
  AddJson(*verb, flags->json);
  verb->footer(
      "Examples:\n"
      "  hadal complete \"Why is the sky blue?\"\n"
      "  hadal complete --raw --temperature 0 --max-tokens 32 \"Once upon a time\"\n"
      "  hadal complete --json --seed 7 --file prompt.txt > answer.json\n"
      "  hadal verify --replay answer.json\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
