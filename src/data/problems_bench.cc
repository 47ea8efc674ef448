// Items a second of processor time, family by family: problems_bench [seconds per family].
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "data/problems.h"

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.5;
  std::printf("%-10s %14s %14s %14s\n", "family", "level 1-4 /s", "level 5-8 /s", "bytes an item");
  for (int f = 0; f < hadal::kFamilies; ++f) {
    const auto family = static_cast<hadal::Family>(f);
    double rates[2] = {};
    size_t bytes = 0, all = 0;
    for (int half = 0; half < 2; ++half) {
      uint64_t items = 0;
      const std::clock_t start = std::clock();
      double spent = 0;
      while (spent < seconds) {
        const int level = static_cast<int>(1 + 4 * half + items % 4);
        const auto p = hadal::MakeProblem(1, items++, family, level, hadal::Language::kEnglish);
        if (half == 0) bytes += p.prompt.size() + p.thought.size() + p.answer.size(), ++all;
        spent = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
      }
      rates[half] = static_cast<double>(items) / spent;
    }
    std::printf("%-10s %14.0f %14.0f %14zu\n", std::string(hadal::FamilyName(family)).c_str(),
                rates[0], rates[1], bytes / all);
  }
  return 0;
}
