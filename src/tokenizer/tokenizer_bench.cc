// Speed of tokenizers, in processor time of one thread.
//   tokenizer_bench TEXT VOCABULARY[@PRE]...
// VOCABULARY is a GGUF file or a tokenizer.json; @PRE replaces the GGUF's name of its splits.
#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>
#include <utility>

#include "base/file.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/vocabulary_for_test.h"

namespace hadal {
namespace {

double Seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

Result<Tokenizer> Make(const std::string& path, const std::string& pre, double* seconds) {
  if (path.ends_with(".json")) {
    const std::string json = TRY(ReadFile(path));
    const double start = Seconds();
    auto made = Tokenizer::FromJson(json);
    *seconds = Seconds() - start;
    return made;
  }
  TokenizerSpec spec = TRY(ReadVocabulary(path));
  if (!pre.empty()) spec.pre = pre;
  const double start = Seconds();
  auto made = Tokenizer::FromSpec(std::move(spec));
  *seconds = Seconds() - start;
  return made;
}

int Measure(const std::string& argument, const std::string& text) {
  const size_t at = argument.find('@');
  const std::string path = argument.substr(0, at);
  double made_in = 0;
  const auto made =
      Make(path, at == std::string::npos ? std::string() : argument.substr(at + 1), &made_in);
  if (!made.ok()) {
    std::fprintf(stderr, "%s: %s\n", path.c_str(), made.error().message.c_str());
    return 1;
  }
  double start = Seconds();
  size_t ids = made->Encode(text).size();
  const double first = Seconds() - start;
  double best = first;
  for (int round = 0; round < 8; ++round) {
    start = Seconds();
    ids = made->Encode(text).size();
    best = std::min(best, Seconds() - start);
  }
  const double megabytes = static_cast<double>(text.size()) / 1e6;
  std::printf("%-72s made in %6.1f ms, first %5.1f MB/s, best of 9 %5.1f MB/s, %zu ids\n",
              argument.c_str(), made_in * 1e3, megabytes / first, megabytes / best, ids);
  return 0;
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s TEXT VOCABULARY[@PRE]...\n", argv[0]);
    return 2;
  }
  const auto text = hadal::ReadFile(argv[1]);
  if (!text.ok()) {
    std::fprintf(stderr, "%s\n", text.error().message.c_str());
    return 1;
  }
  int failed = 0;
  for (int i = 2; i < argc; ++i) failed |= hadal::Measure(argv[i], *text);
  return failed;
}
