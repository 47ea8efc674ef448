// The parser of the command line. It is CLI11 and costs seconds to compile, so its headers are
// included by command_line.cc alone. Verbs and options live as long as their Program.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace hadal::cli {

// What a value must satisfy, and how --help says it.
struct Check {
  std::function<std::string(const std::string&)> error;  // empty: the value is good
  std::string description = {};
};
Check Range(int low, int high);  // both ends included
Check Range(int64_t low, int64_t high);
Check Range(double low, double high);
Check OneOf(std::vector<std::string> values);

class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}
  Option* required();
  Option* check(Check check);
  Option* capture_default_str();  // --help shows the value that the variable has now
  Option* delimiter(char between);
  Option* description(std::string text);
  Option* excludes(Option* other);

 private:
  CLI::Option* option_;
};

class Verb {
 public:
  explicit Verb(CLI::App* app);
  Verb(const Verb&) = delete;
  Verb& operator=(const Verb&) = delete;
  ~Verb();

  Verb* add_subcommand(std::string name, std::string description);
  // `name` is a list like "-m,--model"; without dashes the option is known by its place. `value`
  // keeps what it has unless the option is given. Lists take several values, or the option again.
  // T: string, int, int64_t, uint64_t, float, double, an optional number, a vector of strings or
  // ints.
  template <typename T>
  Option* add_option(std::string name, T& value, std::string description);
  Option* add_flag(std::string name, bool& value, std::string description);
  Option* get_option(std::string name);  // that was added; an unknown one throws
  void require_subcommand(int count);
  void footer(std::string text);
  void callback(std::function<void()> run);  // when this verb is chosen and all its values are good

 private:
  Option* Keep(CLI::Option* option);

  CLI::App* app_;
  std::vector<std::unique_ptr<Option>> options_;
  std::vector<std::unique_ptr<Verb>> verbs_;
};

struct Parsed {
  bool printed = false;              // --help or --version: nothing was run
  std::optional<std::string> wrong;  // what is wrong with the usage; nothing was run
  std::string verb;                  // the one chosen, if any
};

class Program {
 public:
  // `version` is what --version prints.
  Program(std::string description, std::string name, std::string version);
  ~Program();
  Verb& verbs() { return verbs_; }
  // Runs the callback of the verb that is chosen; what it throws passes through.
  Parsed Parse(int argc, const char* const* argv);

 private:
  std::unique_ptr<CLI::App> app_;
  Verb verbs_;
};

}  // namespace hadal::cli
