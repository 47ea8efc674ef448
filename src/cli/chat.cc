// hadal chat: talk to a model in the terminal.
#include <fmt/format.h>

#include <memory>

#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/line_reader.h"
#include "cli/session.h"
#include "cli/store.h"
#include "cli/thought_printer.h"

namespace hadal::cli {
namespace {

constexpr const char* kHelp =
    "/help             this\n"
    "/reset            forget the conversation\n"
    "/system TEXT      set the system message (nothing: none)\n"
    "/undo             take back the last question and its answer\n"
    "/retry            another answer to the last question\n"
    "/set NAME VALUE   temperature, top_p, top_k, min_p, repetition_penalty, seed, max_tokens\n"
    "/save FILE        write the conversation as JSON\n"
    "/load FILE        read one\n"
    "/stats            tokens and speed\n"
    "/exit             leave (ctrl-D too; ctrl-C stops an answer)\n"
    "A line that ends in \\ goes on in the next.\n";

struct Flags {
  ModelFlags model;
  SamplingFlags sampling;
  std::string system, thinking = "show";
  bool verbose = false;
};

class Chat {
 public:
  Chat(const Flags& flags, Session& session)
      : flags_(flags),
        session_(session),
        params_(ApplyFlags(flags.sampling, session.bundle.default_sampling)),
        max_tokens_(flags.sampling.max_tokens),
        interactive_(IsTerminal(0)),
        terminal_(IsTerminal(1)) {
    conversation_.SetSystem(flags.system);
  }

  Status Run() {
    const InterruptGuard guard;
    if (interactive_ && terminal_) {
      fmt::print("{}, context {} tokens. /help shows the commands, /exit leaves.\n",
                 Printable(session_.bundle.name), session_.engine->context());
    }
    LineReader reader(0);
    std::string line;
    bool warned = false;
    while (!leave_) {
      if (interactive_ && terminal_) fmt::print("> ");
      std::fflush(stdout);
      const auto outcome = reader.Read(line);
      if (outcome == LineReader::Outcome::kEnd) break;
      if (outcome == LineReader::Outcome::kInterrupted) {
        InterruptGuard::Clear();
        if (warned) break;
        fmt::print("\nctrl-C again or /exit leaves\n");
        warned = true;
        continue;
      }
      warned = false;
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      const Status status = Handle(line);
      if (status.ok()) continue;
      if (!interactive_ || ferror(stdout)) return status;  // a script wants to know
      fmt::print("{}\n", Printable(status.error().message));
    }
    if (interactive_ && terminal_) fmt::print("\n");
    return {};
  }

 private:
  Status Handle(const std::string& line) {
    if (line[0] != '/') {
      conversation_.Add({"user", line, ""});
      const Status status = Reply();
      if (!status.ok()) conversation_.Undo();
      return status;
    }
    const size_t space = line.find(' ');
    const std::string command = line.substr(0, space);
    std::string rest = space == std::string::npos ? "" : line.substr(space + 1);
    while (!rest.empty() && rest.back() == ' ') rest.pop_back();
    return Command(command, rest);
  }

  Status Command(const std::string& command, const std::string& rest) {
    if (command == "/help") {
      fmt::print("{}", kHelp);
    } else if (command == "/exit" || command == "/quit") {
      leave_ = true;
    } else if (command == "/reset") {
      conversation_.Reset();
    } else if (command == "/system") {
      conversation_.SetSystem(rest);
    } else if (command == "/undo") {
      if (!conversation_.Undo()) return Error{Code::kInvalid, "nothing to take back"};
    } else if (command == "/retry") {
      if (!conversation_.TakeBackAnswer()) return Error{Code::kInvalid, "nothing was asked yet"};
      ++params_.seed;  // the same seed would give the same answer
      return Reply();
    } else if (command == "/set") {
      return ChangeSetting(rest, params_, max_tokens_, session_.bundle.model->config().vocab);
    } else if (command == "/save" || command == "/load") {
      if (rest.empty()) return Error{Code::kInvalid, command + " needs a file name"};
      return command == "/save" ? conversation_.Save(rest) : conversation_.Load(rest);
    } else if (command == "/stats") {
      Stats();
    } else {
      return Error{Code::kInvalid, fmt::format("no command {}; /help lists them", Quoted(command))};
    }
    return {};
  }

  Status Reply() {
    const Bundle& bundle = session_.bundle;
    Request request;
    request.prompt = TRY(RenderChat(bundle, conversation_.ToJson(), true));
    const int64_t context = session_.engine->context();
    if (static_cast<int64_t>(request.prompt.size()) >= context) {
      return Error{
          Code::kLimit,
          fmt::format("the conversation has {} tokens, the context holds {}: /undo, /reset, "
                      "or start with a larger --context",
                      request.prompt.size(), context)};
    }
    request.sampling = params_;
    request.max_tokens = max_tokens_;
    request.stop_ids = bundle.eos_ids;
    ThoughtSplitter splitter(*bundle.tokenizer, bundle.thought_tags, request.prompt);
    ThoughtPrinter printer(flags_.thinking, terminal_, stdout);
    InterruptGuard::Clear();
    const Answer answer =
        TRY(Generate(*session_.engine, std::move(request), [&](const SampledToken& token) {
          for (const auto& piece : splitter.Push(token.id)) printer.Print(piece);
          return !InterruptGuard::interrupted() && !ferror(stdout);
        }));
    InterruptGuard::Clear();
    for (const auto& piece : splitter.Finish()) printer.Print(piece);
    printer.Finish(answer.finish == FinishReason::kCancelled ? " [stopped]"
                   : answer.finish == FinishReason::kContext ? " [context full]"
                                                             : "");
    conversation_.Add({"assistant", printer.answer(), printer.thought()});
    last_ = answer;
    if (flags_.verbose) Stats();
    return {};
  }

  void Stats() const {
    fmt::print(
        "[{} prompt tokens, {} of them cached; first token after {:.2f} s; {} tokens, {:.1f} "
        "tok/s; context {}]\n",
        last_.prompt_tokens, last_.cached_tokens, last_.first_seconds, last_.tokens.size(),
        last_.tokens_per_second(), session_.engine->context());
  }

  const Flags& flags_;
  Session& session_;
  Conversation conversation_;
  SamplingParams params_;
  int64_t max_tokens_;
  bool interactive_, terminal_, leave_ = false;
  Answer last_;
};

Status Run(const Flags& flags) {
  const auto session = TRY(OpenSession(flags.model));
  if (!session->bundle.chat_template_error.empty()) {
    fmt::print(stderr, "hadal: the chat template cannot be used, plain text is: {}\n",
               Printable(session->bundle.chat_template_error));
  }
  const SamplingParams params = ApplyFlags(flags.sampling, session->bundle.default_sampling);
  TRY(params.Validate(session->bundle.model->config().vocab));
  Chat chat(flags, *session);
  return chat.Run();
}

}  // namespace

void AddChat(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = app.add_subcommand("chat", "Talk to a model");
  AddModelFlags(*verb, flags->model);
  AddSamplingFlags(*verb, flags->sampling);
  verb->add_option("--system", flags->system, "System message");
  verb->add_option("--thinking", flags->thinking, "What to show of the model's thoughts")
      ->check(OneOf({"show", "collapse", "hide"}))
      ->capture_default_str();
  verb->add_flag("-v,--verbose", flags->verbose, "Speed after each answer");
  verb->footer(
      "Examples:\n"
      "  hadal chat\n"
      "  hadal chat --model DeepSeek-R1-Distill-Qwen-1.5B --thinking collapse\n"
      "  echo \"Name three rivers\" | hadal chat --temperature 0\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
