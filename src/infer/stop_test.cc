#include "infer/stop.h"

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "base/rng.h"

namespace hadal {
namespace {

struct Outcome {
  std::string shown;
  int64_t match = -1;
};

// First end wins, then the longest.
Outcome Reference(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& s : stops) {
      if (s.size() <= end && text.compare(end - s.size(), s.size(), s) == 0) {
        longest = std::max(longest, s.size());
      }
    }
    if (longest > 0) return {text.substr(0, end - longest), static_cast<int64_t>(end - longest)};
  }
  return {text, -1};
}

TEST(StopMatcher, EqualsTheReferenceForEveryChunking) {
  Rng rng(1);
  for (int round = 0; round < 3000; ++round) {
    const auto random = [&](uint64_t most) {
      std::string s(1 + rng.Below(most), 'a');
      for (char& c : s) c = static_cast<char>('a' + rng.Below(3));
      return s;
    };
    std::vector<std::string> stops(1 + rng.Below(6));
    for (std::string& s : stops) s = random(7);
    const std::string text = random(40);
    const Outcome want = Reference(stops, text);

    auto matcher = StopMatcher::Create(stops);
    ASSERT_TRUE(matcher.ok());
    std::string shown;
    for (size_t at = 0; at < text.size();) {
      const size_t n = std::min<size_t>(1 + rng.Below(5), text.size() - at);
      const bool hit = matcher->Feed(std::string_view(text).substr(at, n), &shown);
      at += n;
      ASSERT_EQ(hit, matcher->matched());
      // What is shown is never taken back.
      ASSERT_EQ(want.shown.substr(0, shown.size()), shown);
    }
    matcher->Finish(&shown);
    ASSERT_EQ(shown, want.shown);
    ASSERT_EQ(matcher->match_begin(), want.match);
  }
}

TEST(StopMatcher, HoldsBackOnlyWhatMayBeAStop) {
  const std::vector<std::string> stops = {"\n\nUser:", "STOP"};
  auto matcher = StopMatcher::Create(stops);
  ASSERT_TRUE(matcher.ok());
  std::string shown;
  EXPECT_FALSE(matcher->Feed("Hello\n", &shown));
  EXPECT_EQ(shown, "Hello");
  EXPECT_FALSE(matcher->Feed("world ST", &shown));
  EXPECT_EQ(shown, "Hello\nworld ");
  EXPECT_FALSE(matcher->Feed("AR", &shown));
  EXPECT_EQ(shown, "Hello\nworld STAR");
  EXPECT_FALSE(matcher->Feed("\n\nUs", &shown));
  EXPECT_EQ(shown, "Hello\nworld STAR");
  EXPECT_TRUE(matcher->Feed("er: hi", &shown));
  EXPECT_EQ(shown, "Hello\nworld STAR");
  EXPECT_EQ(matcher->match_begin(), 16);
  EXPECT_TRUE(matcher->Feed("more", &shown));
  matcher->Finish(&shown);
  EXPECT_EQ(shown, "Hello\nworld STAR");
}

TEST(StopMatcher, EmptyAndGiganticListsAreRefused) {
  const std::vector<std::string> with_empty = {"a", ""};
  EXPECT_FALSE(StopMatcher::Create(with_empty).ok());
  const std::vector<std::string> big(3, std::string(StopMatcher::kMaxBytes / 2, 'x'));
  auto refused = StopMatcher::Create(big);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("1572864"), std::string::npos) << refused.error().message;
}

TEST(StopMatcher, AHundredThousandStringsTakeLinearTime) {
  std::vector<std::string> stops;
  for (int i = 0; i < 100'000; ++i) stops.push_back("aaaa" + std::to_string(i));
  const auto begin = std::chrono::steady_clock::now();
  auto matcher = StopMatcher::Create(stops);
  ASSERT_TRUE(matcher.ok()) << matcher.error().message;
  std::string shown;
  const std::string text(1 << 20, 'a');
  EXPECT_FALSE(matcher->Feed(text, &shown));
  EXPECT_EQ(shown.size(), text.size() - 4);
  EXPECT_TRUE(matcher->Feed("7", &shown));
  EXPECT_EQ(shown.size(), text.size() - 4);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(took.count(), 10.0);
}

}  // namespace
}  // namespace hadal
