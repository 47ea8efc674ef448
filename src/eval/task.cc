#include "eval/task.h"

#include <algorithm>

namespace hadal::eval {
namespace {

// Edits that turn one word into the other.
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = std::exchange(row[j + 1], std::min({row[j] + 1, row[j + 1] + 1, replaced}));
    }
  }
  return row[b.size()];
}

Error Unknown(std::string_view name) {
  std::vector<std::string> names;
  for (const TaskSource& source : TaskSources()) names.push_back(source.name);
  for (const std::string& family : FamilyNames()) names.push_back(family);
  const auto nearest = std::min_element(names.begin(), names.end(), [&](auto& a, auto& b) {
    return Distance(name.substr(0, 64), a) < Distance(name.substr(0, 64), b);
  });
  return {Code::kNotFound,
          "no task \"" + std::string(name) + "\": did you mean \"" + *nearest + "\"?"};
}

}  // namespace

Result<std::vector<std::unique_ptr<Task>>> OpenTasks(std::string_view names,
                                                     const std::string& data) {
  std::vector<std::unique_ptr<Task>> tasks;
  while (!names.empty()) {
    const size_t comma = std::min(names.find(','), names.size());
    std::string_view part = names.substr(0, comma);
    names.remove_prefix(std::min(comma + 1, names.size()));
    if (part.empty()) continue;
    const size_t colon = std::min(part.find(':'), part.size());
    std::string name(part.substr(0, colon));
    std::string argument(part.substr(std::min(colon + 1, part.size())));
    if (FamilyFromName(name)) {  // "chain:2" is "procedural:chain:2"
      argument = argument.empty() ? name : name + ':' + argument;
      name = "procedural";
    }
    const auto& sources = TaskSources();
    const auto source = std::find_if(sources.begin(), sources.end(),
                                     [&](const TaskSource& s) { return s.name == name; });
    if (source == sources.end()) return Unknown(name);
    if (source->argument.empty() && !argument.empty()) {
      return Error{Code::kInvalid, "task " + name + " takes no \":" + argument + "\""};
    }
    auto opened = source->open(argument, data);
    if (!opened.ok()) {
      return Error{opened.error().code, "task " + name + ": " + opened.error().message};
    }
    for (auto& task : *opened) tasks.push_back(std::move(task));
  }
  if (tasks.empty()) return Error{Code::kInvalid, "no task named"};
  return tasks;
}

}  // namespace hadal::eval
