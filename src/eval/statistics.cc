#include "eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/rng.h"

namespace hadal::eval {
namespace {

constexpr double kZ = 1.959963984540054;  // 97.5 % of the normal distribution
constexpr int kResamples = 2000;

std::vector<double> Rates(std::span<const ItemCount> items) {
  std::vector<double> rates;
  for (const ItemCount& item : items) {
    if (item.graded > 0) {
      rates.push_back(static_cast<double>(item.right) / static_cast<double>(item.graded));
    }
  }
  return rates;
}

}  // namespace

Interval Wilson(int64_t successes, int64_t trials) {
  if (trials <= 0) return {};
  const auto n = static_cast<double>(trials);
  const double p = static_cast<double>(successes) / n;
  const double centre = p + kZ * kZ / (2 * n);
  const double spread = kZ * std::sqrt(p * (1 - p) / n + kZ * kZ / (4 * n * n));
  const double scale = 1 + kZ * kZ / n;
  return {std::max(0.0, (centre - spread) / scale), std::min(1.0, (centre + spread) / scale)};
}

double PassAt1(std::span<const ItemCount> items) {
  const auto rates = Rates(items);
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return rates.empty() ? 0 : sum / static_cast<double>(rates.size());
}

Interval PassAt1Interval(std::span<const ItemCount> items, uint64_t seed) {
  const auto rates = Rates(items);
  if (rates.empty()) return {};
  const bool single = std::all_of(items.begin(), items.end(),
                                  [](const ItemCount& item) { return item.graded <= 1; });
  const bool agree =
      std::all_of(rates.begin(), rates.end(), [&](double rate) { return rate == rates.front(); });
  const auto n = static_cast<double>(rates.size());
  if (single || agree) {
    double sum = 0;
    for (const double rate : rates) sum += rate;
    return Wilson(std::llround(sum), static_cast<int64_t>(rates.size()));
  }
  Rng rng(seed, 0xb007);
  std::vector<double> means(kResamples);
  for (double& mean : means) {
    double sum = 0;
    for (size_t i = 0; i < rates.size(); ++i) sum += rates[rng.Below(rates.size())];
    mean = sum / n;
  }
  std::sort(means.begin(), means.end());
  return {means[kResamples / 40], means[kResamples - 1 - kResamples / 40]};
}

double PassAtK(std::span<const ItemCount> items, int64_t k) {
  double sum = 0;
  int64_t counted = 0;
  for (const ItemCount& item : items) {
    if (item.graded < k || k < 1) continue;
    double miss = 1;  // the chance that k of the samples, drawn without replacement, are all wrong
    for (int64_t i = 0; i < k; ++i) {
      const auto wrong_left = static_cast<double>(item.graded - item.right - i);
      miss *= std::max(0.0, wrong_left) / static_cast<double>(item.graded - i);
    }
    sum += 1 - miss;
    ++counted;
  }
  return counted > 0 ? sum / static_cast<double>(counted) : -1;
}

}  // namespace hadal::eval
