#include "cli/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "base/terminal.h"
#include "cli/command_line.h"

namespace hadal::cli {
namespace {

constexpr const char* kFooter =
    "Examples:\n"
    "  hadal chat                                   talk to the default model\n"
    "  hadal complete \"The capital of France is\"    one answer\n"
    "  hadal pull hf:org/name                       get a model\n"
    "  hadal VERB --help                            the flags of a verb\n";

// One line, whatever a file name or a server put into the message.
void PrintError(std::string message) {
  message = Printable(message);
  std::replace(message.begin(), message.end(), '\n', ' ');
  fmt::print(stderr, "hadal: error: {}\n", message);
}

int Usage(const std::string& wrong, const std::string& verb) {
  PrintError(fmt::format("{} (see hadal{} --help)", wrong, verb.empty() ? "" : " " + verb));
  return 2;
}

}  // namespace

int Main(int argc, const char* const* argv) {
  signal(SIGPIPE, SIG_IGN);  // a closed pipe is a write error, not a death
  Status status;
  try {
    Program program("Runs DeepSeek-architecture models and their students: exact, fast, on a CPU.",
                    "hadal", "hadal 0.1.0");
    program.verbs().require_subcommand(1);
    program.verbs().footer(kFooter);
    for (const auto add : {AddChat, AddComplete, AddPull, AddList, AddInspect, AddConvert,
                           AddQuantize, AddPerplexity, AddBench, AddVerify, AddData, AddRecipe,
                           AddTrain, AddDistill, AddEval, AddCost, AddReport}) {
      add(program.verbs(), status);
    }
    const Parsed parsed = program.Parse(argc, argv);
    if (parsed.printed) return 0;
    if (parsed.wrong) return Usage(*parsed.wrong, parsed.verb);
  } catch (const std::exception& error) {  // the last line of defence: libraries and memory
    PrintError(error.what());
    return 1;
  }
  if (status.ok() && (std::fflush(stdout) != 0 || std::ferror(stdout))) {
    status = Error{Code::kIo, "cannot write to standard output"};
  }
  if (status.ok()) return 0;
  PrintError(status.error().message);
  return 1;
}

}  // namespace hadal::cli
