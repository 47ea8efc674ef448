#include "cli/commands.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>

#include "base/terminal.h"

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

int Usage(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);  // --help, --version
  const auto chosen = app.get_subcommands();
  PrintError(fmt::format("{} (see hadal{} --help)", error.what(),
                         chosen.empty() ? "" : " " + chosen.front()->get_name()));
  return 2;
}

}  // namespace

int Main(int argc, const char* const* argv) {
  signal(SIGPIPE, SIG_IGN);  // a closed pipe is a write error, not a death
  Status status;
  try {
    CLI::App app("Runs DeepSeek-architecture models and their students: exact, fast, on a CPU.",
                 "hadal");
    app.set_version_flag("--version", "hadal 0.1.0");
    app.require_subcommand(1);
    app.footer(kFooter);
    app.get_formatter()->column_width(34);
    for (const auto add : {AddChat, AddComplete, AddPull, AddList, AddInspect, AddConvert,
                           AddQuantize, AddPerplexity, AddBench, AddVerify, AddData, AddRecipe,
                           AddTrain, AddEval, AddCost, AddReport}) {
      add(app, status);
    }
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return Usage(app, error);
    }
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
