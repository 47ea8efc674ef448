#include "cli/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "base/progress.h"
#include "base/terminal.h"
#include "cli/source.h"
#include "cli/store.h"

namespace hadal::cli {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

bool ShowLoading(void* bar, int64_t done, int64_t total) {
  static_cast<Progress*>(bar)->Update(done, total);
  return true;
}

}  // namespace

Result<std::string> FindModel(const std::string& model) {
  if (!model.empty()) return ResolveModel(model);
  if (auto found = ResolveModel(std::string(kDefaultModel)); found.ok()) return found;
  const Source source = TRY(ParseSource(std::string(kDefaultSource)));
  if (Offline()) {
    return Error{
        Code::kNotFound,
        fmt::format("the default model {} is not here, and offline mode forbids pulling it: "
                    "name one with --model",
                    kDefaultModel)};
  }
  fmt::print(stderr, "first use: getting {} ({}, 93 MB)\n", kDefaultModel, kDefaultSource);
  const InterruptGuard guard;
  const StoredModel pulled = TRY(Pull(source, {}, TRY(DownloadOptionsFromEnvironment())));
  return WeightsPath(pulled.folder);
}

Result<std::unique_ptr<Exec>> MakeExec(int threads) {
  return std::make_unique<Exec>(threads, TRY(ChooseIsa()));
}

int64_t ChooseContext(int64_t asked, const ModelConfig& config) {
  return asked > 0 ? asked : std::min(config.context, kDefaultContext);
}

Result<std::unique_ptr<Session>> OpenSession(const ModelFlags& flags, int64_t max_sequences) {
  auto session = std::make_unique<Session>();
  session->path = TRY(FindModel(flags.model));
  session->exec = TRY(MakeExec(flags.threads));
  {
    Progress bar("load " + std::filesystem::path(session->path).filename().string());
    BundleOptions options;
    options.load.progress = ShowLoading;
    options.load.progress_user = &bar;
    session->bundle = TRY(LoadBundle(*session->exec, session->path, options));
  }
  EngineOptions options;
  options.context = ChooseContext(flags.context, session->bundle.model->config());
  options.max_sequences = max_sequences;
  session->engine =
      TRY(Engine::Create(*session->bundle.model, session->bundle.tokenizer.get(), options));
  return session;
}

std::vector<int32_t> Answer::ids() const {
  std::vector<int32_t> out;
  for (const auto& t : tokens) out.push_back(t.id);
  return out;
}

double Answer::tokens_per_second() const {
  const double decode = seconds - first_seconds;
  return tokens.size() > 1 && decode > 0 ? static_cast<double>(tokens.size() - 1) / decode : 0;
}

Result<Answer> Generate(Engine& engine, Request request,
                        const std::function<bool(const SampledToken&)>& on_token) {
  Answer answer;
  answer.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  const auto start = Clock::now();
  const RequestId id = TRY(engine.Submit(std::move(request)));
  bool cancelled = false;
  while (answer.finish == FinishReason::kNone) {
    for (const StepOutput& out : engine.Step()) {
      if (out.id != id) continue;
      if (answer.tokens.empty()) {
        answer.cached_tokens = out.cached_tokens;
        answer.first_seconds = SecondsSince(start);
      }
      if (out.finish == FinishReason::kError) return Error{Code::kNumeric, out.error};
      for (const SampledToken& token : out.tokens) {
        if (cancelled) break;
        answer.tokens.push_back(token);
        if (on_token && !on_token(token)) cancelled = true;
      }
      answer.finish = out.finish;
      answer.stop_bytes = out.stop_bytes;
    }
    if (cancelled && answer.finish == FinishReason::kNone) engine.Cancel(id);
  }
  if (cancelled) answer.finish = FinishReason::kCancelled;
  answer.seconds = SecondsSince(start);
  return answer;
}

HeldText::HeldText(const std::vector<std::string>& stop_strings) {
  for (const auto& s : stop_strings) longest_ = std::max(longest_, s.size());
}

std::string HeldText::Push(std::string_view text) {
  held_ += text;
  if (longest_ == 0) return std::exchange(held_, {});
  // A stop string may end anywhere within the newest text, so all of it is kept as well.
  const size_t keep = longest_ + text.size();
  if (held_.size() <= keep) return {};
  size_t cut = held_.size() - keep;
  while (cut > 0 && (static_cast<unsigned char>(held_[cut]) & 0xc0) == 0x80) --cut;
  std::string out = held_.substr(0, cut);
  held_.erase(0, cut);
  return out;
}

std::string HeldText::Finish(int64_t drop_bytes) {
  const auto drop = static_cast<size_t>(std::max<int64_t>(0, drop_bytes));
  held_.resize(held_.size() - std::min(drop, held_.size()));
  return std::exchange(held_, {});
}

}  // namespace hadal::cli
