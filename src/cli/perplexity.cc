// hadal perplexity.
#include "cli/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/session.h"

namespace hadal::cli {
namespace {

constexpr int64_t kBlockTokens = 16;  // of the cache
constexpr int64_t kStepTokens = 128;  // bounds the logits held at once
constexpr uint64_t kMaxTextBytes = 1ull << 30;

// -log softmax(logits)[id], summed in f64.
double NegativeLogLikelihood(View1<float> logits, int32_t id) {
  float max = logits[0];
  for (const float v : logits) max = std::max(max, v);
  double sum = 0;
  for (const float v : logits) sum += std::exp(static_cast<double>(v - max));
  return std::log(sum) + static_cast<double>(max) - static_cast<double>(logits[id]);
}

// One chunk's sums over its scored half.
struct Sums {
  double nll = 0, nll2 = 0;
  int64_t count = 0;
};

class Scorer {
 public:
  Scorer(Model& model, int64_t context)
      : model_(model),
        context_(context),
        cache_(model.config(), KvType::kF16, (context + kBlockTokens - 1) / kBlockTokens) {
    for (int64_t b = 0; b < cache_.blocks(); ++b) blocks_.push_back(static_cast<int32_t>(b));
  }

  // Logits at positions [context/2, context-1) predict the ids after them.
  Status Score(std::span<const int32_t> ids, Sums& sums) {
    const int64_t first = context_ / 2, end = context_ - 1;
    for (int64_t at = 0; at < end; at += kStepTokens) {
      const int64_t n = std::min(kStepTokens, end - at);
      const int64_t wanted = std::clamp(at + n - first, int64_t{0}, n);
      const SeqInput seq{.blocks = blocks_.data(),
                         .start = at,
                         .tokens = ids.subspan(static_cast<size_t>(at), static_cast<size_t>(n)),
                         .expanded = true,
                         .logits = wanted};
      const ForwardResult r = model_.Forward({&seq, 1}, cache_);
      TRY(Add(r, ids.subspan(static_cast<size_t>(at + n - wanted + 1)), sums));
    }
    return {};
  }

 private:
  Status Add(const ForwardResult& r, std::span<const int32_t> targets, Sums& sums) {
    const int64_t rows = r.logits.rows;
    nll_.resize(static_cast<size_t>(rows));
    for (int64_t i = 0; i < rows; ++i) {
      if (const int32_t bad = r.bad_layer[static_cast<size_t>(i)]; bad >= 0) {
        return Error{Code::kNumeric, fmt::format("layer {} gives NaN or Inf: the weights are "
                                                 "damaged or the type too narrow",
                                                 bad)};
      }
    }
    model_.exec().pool().For(rows, [&](int64_t i, int) {
      nll_[static_cast<size_t>(i)] =
          NegativeLogLikelihood(r.logits[i], targets[static_cast<size_t>(i)]);
    });
    for (const double v : nll_) {
      sums.nll += v;
      sums.nll2 += v * v;
    }
    sums.count += rows;
    return {};
  }

  Model& model_;
  int64_t context_;
  KvCache cache_;
  std::vector<int32_t> blocks_;
  std::vector<double> nll_;
};

struct Flags {
  ModelFlags model;
  std::string file;
  int64_t chunks = -1;
  bool json = false;
};

Status Run(const Flags& flags) {
  const std::string text = TRY(ReadFile(flags.file, kMaxTextBytes));
  const std::string path = TRY(FindModel(flags.model.model));
  const auto exec = TRY(MakeExec(flags.model.threads));
  const Bundle bundle = TRY(LoadBundle(*exec, path));
  PerplexityOptions options{.context = flags.model.context, .chunks = flags.chunks, .progress = {}};
  const InterruptGuard guard;
  options.progress = [&](int64_t done, int64_t total, double value) {
    fmt::print(stderr, "[{}/{}] {:.4f}\n", done, total, value);
    return !InterruptGuard::interrupted();
  };
  const Perplexity p = TRY(MeasurePerplexity(*bundle.model, *bundle.tokenizer, text, options));
  if (flags.json) {
    const nlohmann::json out = {{"model", bundle.name}, {"perplexity", p.value},
                                {"error", p.error},     {"chunks", p.chunks},
                                {"scored", p.scored},   {"context", options.context}};
    fmt::print("{}\n", out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    fmt::print("PPL = {:.4f} +/- {:.5f}  ({} chunks of {}, {} tokens scored)\n", p.value, p.error,
               p.chunks, options.context, p.scored);
  }
  return {};
}

}  // namespace

Result<Perplexity> MeasurePerplexity(Model& model, std::vector<int32_t> ids, int32_t bos,
                                     const PerplexityOptions& options) {
  const int64_t n = options.context;
  if (n < 4 || n > model.config().context) {
    return Error{Code::kInvalid,
                 fmt::format("--context {}: from 4 to the model's {}", n, model.config().context)};
  }
  int64_t chunks = static_cast<int64_t>(ids.size()) / n;
  if (chunks == 0) {
    return Error{Code::kInvalid, fmt::format("the text has {} tokens, a chunk needs {}: give more "
                                             "text or a smaller --context",
                                             ids.size(), n)};
  }
  if (options.chunks > 0) chunks = std::min(chunks, options.chunks);
  Scorer scorer(model, n);
  Sums sums;
  Perplexity result;
  for (int64_t c = 0; c < chunks; ++c) {
    const std::span chunk(ids.data() + c * n, static_cast<size_t>(n));
    if (bos >= 0) chunk[0] = bos;
    TRY(scorer.Score(chunk, sums));
    const double count = static_cast<double>(sums.count);
    const double mean = sums.nll / count;
    const double variance = sums.nll2 / count - mean * mean;
    result.value = std::exp(mean);
    if (sums.count > 1 && variance > 0) {
      result.error = std::sqrt(variance / (count - 1)) * result.value;
    }
    result.chunks = c + 1;
    result.scored = sums.count;
    if (options.progress && !options.progress(c + 1, chunks, result.value)) {
      return Error{Code::kCancelled, "interrupted"};
    }
  }
  return result;
}

Result<Perplexity> MeasurePerplexity(Model& model, const Tokenizer& tokenizer,
                                     std::string_view text, const PerplexityOptions& options) {
  auto ids = tokenizer.EncodePrompt(text, {});
  const bool bos = tokenizer.add_bos() && tokenizer.bos();
  for (const int32_t id : ids) {
    if (id < 0 || id >= model.config().vocab) {
      return Error{Code::kCorrupt, fmt::format("the tokenizer gives id {}, the model has {}", id,
                                               model.config().vocab)};
    }
  }
  return MeasurePerplexity(model, std::move(ids), bos ? *tokenizer.bos() : -1, options);
}

void AddPerplexity(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  flags->model.context = 512;
  Verb* verb = app.add_subcommand("perplexity", "How well a model predicts a text");
  AddModelFlags(*verb, flags->model);
  verb->get_option("--context")->description("Tokens a chunk; the second half is scored");
  verb->add_option("-f,--file", flags->file, "The text")->required();
  verb->add_option("--chunks", flags->chunks, "Stop after this many; -1: all")
      ->capture_default_str();
  AddJson(*verb, flags->json);
  verb->footer(
      "The figure is comparable with llama-perplexity of llama.cpp at the same context.\n"
      "Example:\n"
      "  hadal perplexity --model model.gguf --file text.txt --context 512\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
