// hadal report: a run as one HTML page.
#include "train/report.h"

#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "base/progress.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"

namespace hadal::cli {
namespace {

struct Flags {
  std::string run, output;
};

Status Run(const Flags& flags) {
  const std::string path = TRY(WriteReport(flags.run, flags.output));
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  fmt::print("{}  {}\n", Printable(path), HumanBytes(error ? 0.0 : static_cast<double>(size)));
  return {};
}

}  // namespace

void AddReport(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = app.add_subcommand("report", "Write a run's report: one HTML file");
  verb->add_option("run", flags->run, "Folder of a training run or of a recipe")->required();
  verb->add_option("-o,--output", flags->output, "Where; without it report.html in the folder");
  verb->footer(
      "Examples:\n"
      "  hadal report runs/nano\n"
      "  hadal report runs/nano -o nano.html\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
