// hadal list: the models on this machine.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/progress.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/flags.h"
#include "cli/store.h"

namespace hadal::cli {
namespace {

using nlohmann::json;

Status Run(bool as_json) {
  const auto models = TRY(ListModels());
  if (as_json) {
    json list = json::array();
    for (const auto& m : models) {
      json entry = {{"name", m.manifest.name},
                    {"folder", m.folder},
                    {"source", m.manifest.source},
                    {"revision", m.manifest.revision},
                    {"bytes", m.bytes()}};
      if (!m.problem.empty()) entry["problem"] = m.problem;
      list.push_back(std::move(entry));
    }
    fmt::print("{}\n", list.dump(2, ' ', false, json::error_handler_t::replace));
    return {};
  }
  if (models.empty()) {
    fmt::print("no models yet: hadal pull gets one, hadal chat gets {}\n", kDefaultModel);
    return {};
  }
  size_t width = 0;
  for (const auto& m : models) width = std::max(width, m.manifest.name.size());
  for (const auto& m : models) {
    fmt::print("{:<{}}  {:>8}  {}\n", m.manifest.name, width,
               HumanBytes(static_cast<double>(m.bytes())),
               Printable(m.problem.empty() ? m.manifest.source : "damaged: " + m.problem));
  }
  return {};
}

}  // namespace

void AddList(Verb& app, Status& status) {
  auto as_json = std::make_shared<bool>(false);
  Verb* verb = app.add_subcommand("list", "Show the models on this machine");
  AddJson(*verb, *as_json);
  verb->footer("Example:\n  hadal list --json\n");
  verb->callback([as_json, &status] { status = Run(*as_json); });
}

}  // namespace hadal::cli
