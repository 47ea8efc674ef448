// hadal data problems: generated reasoning problems with worked solutions, as JSONL.
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/file.h"
#include "cli/command_line.h"
#include "cli/data.h"
#include "data/problems.h"

namespace hadal::cli {
namespace {

using nlohmann::json;

struct Flags {
  std::vector<std::string> families;
  std::vector<int> levels = {1};
  std::string language = "en", split = "train", output;
  int64_t count = 10;
  uint64_t seed = 0;
  bool documents = false;
};

Result<std::vector<ProblemStream>> Streams(const Flags& flags) {
  std::vector<Family> families;
  for (const std::string& name : flags.families.empty() ? FamilyNames() : flags.families) {
    const auto family = FamilyFromName(name);
    if (!family) {
      std::string known;
      for (const std::string& n : FamilyNames()) known += (known.empty() ? "" : ", ") + n;
      return Error{Code::kInvalid, "no family \"" + name + "\"; known are " + known};
    }
    families.push_back(*family);
  }
  const Split split = flags.split == "train"        ? Split::kTrain
                      : flags.split == "validation" ? Split::kValidation
                                                    : Split::kTest;
  std::vector<ProblemStream> streams;
  for (const int level : flags.levels) {
    for (const Family family : families) {
      for (const auto& [name, language] :
           {std::pair("en", Language::kEnglish), std::pair("zh", Language::kChinese)}) {
        if (flags.language != "both" && flags.language != name) continue;
        streams.emplace_back(ProblemStreamOptions{.seed = flags.seed,
                                                  .family = family,
                                                  .level = level,
                                                  .language = language,
                                                  .split = split});
      }
    }
  }
  return streams;
}

Status Run(const Flags& flags) {
  auto streams = TRY(Streams(flags));
  std::optional<AtomicFile> file;
  if (!flags.output.empty()) file.emplace(TRY(AtomicFile::Create(flags.output)));
  for (int64_t i = 0; i < flags.count; ++i) {
    const Problem problem = streams[static_cast<size_t>(i) % streams.size()].Next();
    const std::string line = (flags.documents ? json{{"text", DocumentText(problem)}}.dump()
                                              : ConversationJson(problem)) +
                             "\n";
    if (file) {
      TRY(file->Write(line));
    } else if (std::fwrite(line.data(), 1, line.size(), stdout) != line.size()) {
      return Error{Code::kIo, "cannot write to standard output"};
    }
  }
  return file ? file->Commit() : Status();
}

}  // namespace

void AddDataProblems(Verb& data, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = data.add_subcommand("problems", "Generate reasoning problems as JSONL");
  verb->add_option("--family", flags->families, "Names, by commas; default all")->delimiter(',');
  verb->add_option("--level", flags->levels, "1 to 8, by commas")
      ->delimiter(',')
      ->check(Range(1, kLevels))
      ->capture_default_str();
  verb->add_option("--language", flags->language, "en, zh or both")
      ->check(OneOf({"en", "zh", "both"}))
      ->capture_default_str();
  verb->add_option("--split", flags->split, "train, validation or test: no instance is in two")
      ->check(OneOf({"train", "validation", "test"}))
      ->capture_default_str();
  verb->add_option("-n,--count", flags->count,
                   "Problems, taken in turn from all that was asked for")
      ->check(Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  verb->add_option("--seed", flags->seed, "The same seed gives the same bytes on any machine")
      ->capture_default_str();
  verb->add_flag("--documents", flags->documents,
                 "Rows of {\"text\"} for pretraining instead of conversations");
  verb->add_option("-o,--output", flags->output, "File; default standard output");
  verb->footer(
      "Example:\n  hadal data problems --family countdown,chain --level 1,2 -n 1000 -o p.jsonl\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
