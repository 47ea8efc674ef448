// The live view: fits any terminal, survives any number, and leaves pipes plain.
#include "train/live_view.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace hadal {
namespace {

// Columns on a terminal, escape sequences left out; every character here is one column wide.
size_t Width(const std::string& line) {
  size_t columns = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\x1b') {
      while (i < line.size() && line[i] != 'm') ++i;
      continue;
    }
    columns += (static_cast<unsigned char>(line[i]) & 0xc0) != 0x80 ? 1 : 0;
  }
  return columns;
}

LiveState State(int64_t steps) {
  LiveState state;
  state.title = "nano-pretrain";
  state.total_steps = 10000;
  for (int64_t step = 1; step <= steps; ++step) {
    StepRecord r;
    r.step = step;
    r.loss = 9 / std::sqrt(static_cast<double>(step));
    r.mtp_loss = 4.2;
    r.distill_loss = 0.9;
    r.balance_loss = 1e-4;
    r.lr = 3e-4;
    r.grad_norm = 0.8;
    r.seconds = 0.5;
    r.tokens_per_second = 16384;
    r.total_tokens = step * 8192;
    r.peak_share = 0.45;
    r.rss_bytes = 1'200'000'000;
    r.expert_tokens = {{10, 10, 10, 10}, {5, 15, 10, 10}};
    r.max_over_mean_load = 1.5;
    if (step % 100 == 0) r.validation_loss = 4.5, r.validation_bits_per_byte = 1.7;
    state.Add(r);
  }
  state.ledger.core_seconds = 1800;
  state.ledger.price_per_core_hour = 0.05;
  return state;
}

std::string Joined(const LiveState& state, int width, bool color) {
  std::string out;
  for (const std::string& line : LiveLines(state, width, color)) out += line + "\n";
  return out;
}

TEST(LiveLinesTest, ShowEverythingAtEightyColumns) {
  const std::string view = Joined(State(500), 80, false);
  for (const char* part : {"nano-pretrain", "500/10 000", "left 1:19:10", "loss 0.4025",
                           "validation 4.5 (1.7 bits/byte)", "lr 0.0003", "gradient 0.8", "mtp 4.2",
                           "distill 0.9", "16.4 k tok/s", "45.0 % of peak", "1.20 GB",
                           "experts max/mean 1.5", "MoE layer 1", "▅", "$0.025"}) {
    EXPECT_NE(view.find(part), std::string::npos) << part << "\n" << view;
  }
  EXPECT_EQ(view.find('\x1b'), std::string::npos);
  EXPECT_NE(Joined(State(500), 80, true).find("\x1b[2m"), std::string::npos);
}

TEST(LiveLinesTest, TellOfTheLatestEvaluation) {
  LiveState state = State(100);
  const size_t lines = LiveLines(state, 80, false).size();
  StepRecord r = state.last;
  r.step = 101;
  r.evaluation = {0.375, 32, 2, 1.5, {{"chain:1", 0.375}}};
  state.Add(r);
  EXPECT_NE(PlainLine(state).find("  pass@1 37.5 %"), std::string::npos) << PlainLine(state);
  r.evaluation.reset();
  r.step = 102;
  state.Add(r);
  EXPECT_EQ(PlainLine(state).find("pass@1"), std::string::npos) << PlainLine(state);
  const auto view = LiveLines(state, 80, false);
  ASSERT_EQ(view.size(), lines + 1);
  EXPECT_EQ(view.back(), "pass@1 37.5 %   answers 32   not graded 2   at step 101");
}

TEST(LiveLinesTest, FitAnyWidth) {
  for (const int width : {1, 20, 40, 79, 80, 200}) {
    for (const bool color : {false, true}) {
      for (const std::string& line : LiveLines(State(500), width, color)) {
        EXPECT_LT(Width(line), static_cast<size_t>(std::max(width, 12))) << width << ": " << line;
      }
    }
  }
}

TEST(LiveLinesTest, SurviveHostileValues) {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  LiveState state;
  state.title = "\x1b]0;evil\a\x1b[2J\n<b>\xff" + std::string(500, 'x');
  state.total_steps = 1;
  for (const double value : {nan, inf, -inf, 1e308, -1e308, 0.0}) {
    StepRecord r;
    r.step = std::numeric_limits<int64_t>::max();
    r.loss = r.mtp_loss = r.balance_loss = r.grad_norm = r.lr = value;
    r.seconds = r.tokens_per_second = r.peak_share = r.max_over_mean_load = value;
    r.total_tokens = r.step;
    r.rss_bytes = std::numeric_limits<uint64_t>::max();
    r.validation_loss = r.validation_bits_per_byte = value;
    r.expert_tokens = {{}, {0, 0}, {r.step, r.step}};
    r.note = "\x1b[31mred\r\n";
    state.Add(r);
    state.ledger.core_seconds = value;
    for (const std::string& line : LiveLines(state, 80, false)) {
      EXPECT_LT(Width(line), 80u);
      EXPECT_EQ(line.find_first_of("\x1b\n\r\a"), std::string::npos);
    }
    const std::string plain = PlainLine(state);
    EXPECT_EQ(plain.find_first_of("\x1b\n\r"), std::string::npos) << plain;
  }
  EXPECT_LE(state.losses.size(), LiveState::kHistory);
}

TEST(LiveStateTest, HistoryIsThinnedAndKeepsItsShape) {
  const LiveState state = State(5000);
  EXPECT_LE(state.losses.size(), LiveState::kHistory);
  EXPECT_GT(state.losses.size(), LiveState::kHistory / 4);
  for (size_t i = 1; i < state.losses.size(); ++i) EXPECT_LT(state.losses[i], state.losses[i - 1]);
  EXPECT_NEAR(state.seconds_per_step, 0.5, 1e-9);
}

TEST(SparklineTest, ScalesAndAverages) {
  EXPECT_EQ(Sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 8), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(Sparkline({0, 0, 7, 7}, 2), "▁█");
  EXPECT_EQ(Sparkline({1, std::nan(""), 1}, 9), "▁ ▁");
  EXPECT_EQ(Sparkline({-1e308, 1e308}, 2), "▁█");
  EXPECT_EQ(Sparkline({}, 5), "");
}

std::string ReadAll(int fd) {
  std::string out;
  char block[4096];
  for (ssize_t got; (got = read(fd, block, sizeof block)) > 0;) {
    out.append(block, static_cast<size_t>(got));
  }
  return out;
}

TEST(LiveViewTest, APipeGetsALineEverySoManySteps) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  {
    LiveView view({ends[1], "run", 25, 10});
    for (int64_t step = 1; step <= 25; ++step) {
      StepRecord r;
      r.step = step;
      if (step == 13) r.validation_loss = 3.5;
      if (step == 17) r.skipped = true, r.note = "spike";
      view.Update(r, Ledger());
    }
    view.Print("saved step-25");
  }
  close(ends[1]);
  const std::string out = ReadAll(ends[0]);
  close(ends[0]);
  EXPECT_EQ(out.find('\x1b'), std::string::npos);
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), 7) << out;  // 1 10 13 17 20 25, the message
  EXPECT_NE(out.find("validation 3.5"), std::string::npos);
  EXPECT_NE(out.find("skipped  spike"), std::string::npos);
}

TEST(LiveViewTest, ATerminalIsRedrawnInPlace) {
  int master = -1, slave = -1;
  winsize size{24, 80, 0, 0};
  if (openpty(&master, &slave, nullptr, nullptr, &size) != 0) GTEST_SKIP() << "no terminals here";
  setenv("NO_COLOR", "1", 1);
  setenv("TERM", "xterm", 1);
  {
    LiveView view({slave, "run", 2, 10});
    StepRecord r;
    r.step = 1;
    view.Update(r, Ledger());
    r.step = 2;
    r.validation_loss = 1;
    view.Update(r, Ledger());
  }
  unsetenv("NO_COLOR");
  // The terminal hands on what it got in pieces and in its own time.
  std::string out;
  pollfd ready{master, POLLIN, 0};
  while (out.find("\x1b[5A") == std::string::npos && poll(&ready, 1, 10000) > 0) {
    char block[8192];
    const ssize_t got = read(master, block, sizeof block);
    if (got <= 0) break;
    out.append(block, static_cast<size_t>(got));
  }
  close(slave);
  close(master);
  EXPECT_NE(out.find("\x1b[5A"), std::string::npos) << out;  // up over the five lines
  EXPECT_EQ(out.find("\x1b[2m"), std::string::npos);         // no colour
  EXPECT_EQ(out.find("\x1b[1m"), std::string::npos);
}

}  // namespace
}  // namespace hadal
