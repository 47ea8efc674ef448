#include <chrono>

#include "data/build.h"
#include "data/conversation.h"
#include "data/internal_build.h"

namespace hadal {
namespace {

class Builder {
 public:
  Builder(const ConversationBuildOptions& options, const ConversationRenderer& renderer,
          internal::SplitWriter writer)
      : options_(options), renderer_(renderer), writer_(std::move(writer)) {}

  Status AddFile(const std::string& path);
  Result<BuildReport> Finish() {
    TRY(writer_.Finish(&report_));
    report_.dropped = internal::MostFirst(dropped_);
    return std::move(report_);
  }

 private:
  Status AddRow(const std::string& line, const std::string& where);
  const ConversationBuildOptions& options_;
  const ConversationRenderer& renderer_;
  internal::SplitWriter writer_;
  BuildReport report_;
  ExactIndex seen_;
  std::map<std::string, int64_t> dropped_;
};

Status Builder::AddFile(const std::string& path) {
  auto lines = TRY(LineSource::Open(path));
  std::string line;
  while (TRY(lines.Next(&line))) {
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    const std::string where = path + ":" + std::to_string(lines.line_number());
    const Status status = AddRow(line, where);
    if (!status.ok()) return Error{status.error().code, where + ": " + status.error().message};
  }
  return {};
}

Status Builder::AddRow(const std::string& line, const std::string& where) {
  ++report_.documents;
  report_.bytes += line.size();
  if (!seen_.Insert(HashContent(line))) {
    ++dropped_["exact duplicate"];
    return {};
  }
  const auto documents = TRY(renderer_.Render(TRY(ParseConversation(line))));
  const bool validation = IsValidation(line, options_.validation, options_.seed);
  for (const TokenDocument& d : documents) {
    if (options_.max_tokens == 0 || static_cast<int64_t>(d.ids.size()) <= options_.max_tokens) {
      TRY(writer_.Add(validation, d.ids, d.loss));
      continue;
    }
    ++dropped_["too long"];
    if (report_.examples.size() < 20) {
      report_.examples.push_back({where, std::to_string(d.ids.size()) + " tokens"});
    }
  }
  return {};
}

}  // namespace

Result<BuildReport> BuildConversations(const Tokenizer& tokenizer,
                                       const ConversationBuildOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  if (options.paths.empty()) return Error{Code::kInvalid, "no file of conversations was given"};
  const auto renderer = TRY(ConversationRenderer::Create(
      tokenizer, options.chat_template.empty() ? DefaultChatTemplate() : options.chat_template));
  Builder builder(options, renderer,
                  TRY(internal::SplitWriter::Create(tokenizer, options.output, options.validation,
                                                    options.shard_tokens)));
  for (const std::string& path : options.paths) TRY(builder.AddFile(path));
  BuildReport report = TRY(builder.Finish());
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace hadal
