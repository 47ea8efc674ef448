// Speed of building data, from JSONL or text to shards, and of training a tokenizer.
//   data_bench INPUT [VOCABULARY] [THREADS]
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "data/build.h"
#include "data/loader.h"
#include "tokenizer/bpe_trainer.h"

namespace hadal {
namespace {

double Seconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

double ProcessorSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         1e-6 * static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

double PeakMegabytes() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024 / 1e6;
}

Result<BpeTraining> TrainTokenizer(const std::string& input, int64_t vocab, int threads) {
  auto trainer = TRY(BpeTrainer::Create({.vocab_size = vocab, .threads = threads}));
  auto source = TRY(DocumentSource::Open({.paths = {input}}));
  std::vector<Document> batch;
  std::vector<std::string_view> views;
  size_t bytes = 0;
  const auto add = [&] {
    views.assign(batch.size(), {});
    for (size_t i = 0; i < batch.size(); ++i) views[i] = batch[i].text;
    trainer.Add(views);
    batch.clear();
    bytes = 0;
  };
  while (auto document = TRY(source.Next())) {
    bytes += document->text.size();
    batch.push_back(std::move(*document));
    if (bytes > (16 << 20)) add();
  }
  add();
  return trainer.Train();
}

Status Run(const std::string& input, int64_t vocab, int threads) {
  double start = Seconds();
  const BpeTraining made = TRY(TrainTokenizer(input, vocab, threads));
  std::printf(
      "tokenizer: %lld tokens from %.1f MB, %lld words: %.1f s (counting %.1f, merging %.1f), peak "
      "%.0f MB\n",
      static_cast<long long>(made.vocab_size), static_cast<double>(made.bytes) / 1e6,
      static_cast<long long>(made.words), Seconds() - start, made.count_seconds, made.merge_seconds,
      PeakMegabytes());
  const Tokenizer tokenizer =
      TRY(Tokenizer::FromJson(made.tokenizer_json, made.tokenizer_config_json));
  const std::string folder =
      (std::filesystem::temp_directory_path() / ("hadal-bench-" + std::to_string(getpid())))
          .string();
  BuildOptions options;
  options.source.paths = {input};
  options.output = folder;
  options.threads = threads;
  const double used = ProcessorSeconds();
  const BuildReport report = TRY(BuildDataset(tokenizer, options));
  const double cpu = ProcessorSeconds() - used;
  std::printf(
      "build: %lld documents, %.1f MB, %.1f s, %.1f MB/s; %.1f MB/s a core of processor time\n",
      static_cast<long long>(report.documents), static_cast<double>(report.bytes) / 1e6,
      report.seconds, static_cast<double>(report.bytes) / 1e6 / report.seconds,
      static_cast<double>(report.bytes) / 1e6 / cpu);
  for (const auto& [reason, count] : report.dropped) {
    std::printf("  dropped %6lld  %s\n", static_cast<long long>(count), reason.c_str());
  }
  auto loader = TRY(Loader::Open({.sets = {{folder + "/train", 1}}, .sequence_length = 1024}));
  start = Seconds();
  int64_t tokens = 0;
  const auto batch = TRY(loader.Next(8192));
  for (const auto& s : batch) tokens += static_cast<int64_t>(s.tokens.size());
  std::printf("loader: %.1f M tokens/s, sequences of 1024 are %.1f %% full\n",
              static_cast<double>(tokens) / 1e6 / (Seconds() - start),
              100.0 * static_cast<double>(tokens) / (8192.0 * 1024));
  std::filesystem::remove_all(folder);
  return {};
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "data_bench INPUT [VOCABULARY] [THREADS]\n");
    return 2;
  }
  const hadal::Status status = hadal::Run(argv[1], argc > 2 ? std::atoll(argv[2]) : 32768,
                                          argc > 3 ? std::atoi(argv[3]) : 1);
  if (!status.ok()) std::fprintf(stderr, "data_bench: %s\n", status.error().message.c_str());
  return status.ok() ? 0 : 1;
}
