#include "cli/command_line.h"

#include <CLI/CLI.hpp>
#include <utility>

namespace hadal::cli {
namespace {

constexpr size_t kHelpColumn = 34;

Check FromValidator(CLI::Validator validator) {
  std::string description = validator.get_description();
  auto error = [validator = std::move(validator)](const std::string& value) {
    return validator(value);
  };
  return {std::move(error), std::move(description)};
}

std::unique_ptr<CLI::App> MakeApp(std::string description, std::string name, std::string version) {
  auto app = std::make_unique<CLI::App>(std::move(description), std::move(name));
  app->set_version_flag("--version", version);
  app->get_formatter()->column_width(kHelpColumn);  // before any verb: each takes it over
  return app;
}

}  // namespace

Check Range(int low, int high) { return FromValidator(CLI::Range(low, high)); }
Check Range(int64_t low, int64_t high) { return FromValidator(CLI::Range(low, high)); }
Check Range(double low, double high) { return FromValidator(CLI::Range(low, high)); }
Check OneOf(std::vector<std::string> values) {
  return FromValidator(CLI::IsMember(std::move(values)));
}

Option* Option::required() {
  option_->required();
  return this;
}
Option* Option::check(Check check) {
  option_->check(std::move(check.error), std::move(check.description));
  return this;
}
Option* Option::capture_default_str() {
  option_->capture_default_str();
  return this;
}
Option* Option::delimiter(char between) {
  option_->delimiter(between);
  return this;
}
Option* Option::description(std::string text) {
  option_->description(std::move(text));
  return this;
}
Option* Option::excludes(Option* other) {
  option_->excludes(other->option_);
  return this;
}

Verb::Verb(CLI::App* app) : app_(app) {}
Verb::~Verb() = default;

Option* Verb::Keep(CLI::Option* option) {
  return options_.emplace_back(std::make_unique<Option>(option)).get();
}

Verb* Verb::add_subcommand(std::string name, std::string description) {
  CLI::App* app = app_->add_subcommand(std::move(name), std::move(description));
  return verbs_.emplace_back(std::make_unique<Verb>(app)).get();
}

template <typename T>
Option* Verb::add_option(std::string name, T& value, std::string description) {
  return Keep(app_->add_option(std::move(name), value, std::move(description)));
}
template Option* Verb::add_option(std::string, std::string&, std::string);
template Option* Verb::add_option(std::string, int&, std::string);
template Option* Verb::add_option(std::string, int64_t&, std::string);
template Option* Verb::add_option(std::string, uint64_t&, std::string);
template Option* Verb::add_option(std::string, float&, std::string);
template Option* Verb::add_option(std::string, double&, std::string);
template Option* Verb::add_option(std::string, std::optional<int>&, std::string);
template Option* Verb::add_option(std::string, std::optional<uint64_t>&, std::string);
template Option* Verb::add_option(std::string, std::optional<float>&, std::string);
template Option* Verb::add_option(std::string, std::optional<double>&, std::string);
template Option* Verb::add_option(std::string, std::vector<std::string>&, std::string);
template Option* Verb::add_option(std::string, std::vector<int>&, std::string);
template Option* Verb::add_option(std::string, std::vector<int64_t>&, std::string);
Option* Verb::add_flag(std::string name, bool& value, std::string description) {
  return Keep(app_->add_flag(std::move(name), value, std::move(description)));
}
Option* Verb::get_option(std::string name) { return Keep(app_->get_option(std::move(name))); }
void Verb::require_subcommand(int count) { app_->require_subcommand(count); }
void Verb::footer(std::string text) { app_->footer(std::move(text)); }
void Verb::callback(std::function<void()> run) { app_->callback(std::move(run)); }

Program::Program(std::string description, std::string name, std::string version)
    : app_(MakeApp(std::move(description), std::move(name), std::move(version))),
      verbs_(app_.get()) {}
Program::~Program() = default;

Parsed Program::Parse(int argc, const char* const* argv) {
  Parsed parsed;
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      app_->exit(error);
      parsed.printed = true;
      return parsed;
    }
    parsed.wrong = error.what();
  }
  const auto chosen = app_->get_subcommands();
  if (!chosen.empty()) parsed.verb = chosen.front()->get_name();
  return parsed;
}

}  // namespace hadal::cli
