#include "base/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/terminal.h"

namespace hadal {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

std::string Amount(double value, Progress::Unit unit) {
  if (unit == Progress::Unit::kBytes) return HumanBytes(value);
  return std::to_string(static_cast<int64_t>(value));
}

std::string TimeLeft(double seconds) {
  const auto s = static_cast<int64_t>(std::min(seconds, 359999.0));
  char text[32];
  if (s >= 3600) {
    snprintf(text, sizeof text, "%d:%02d:%02d", int(s / 3600), int(s / 60 % 60), int(s % 60));
  } else {
    snprintf(text, sizeof text, "%d:%02d", int(s / 60), int(s % 60));
  }
  return text;
}

}  // namespace

std::string HumanBytes(double bytes) {
  const char* const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
  size_t unit = 0;
  while (bytes >= 999.5 && unit + 1 < std::size(units)) {
    bytes /= 1000;
    ++unit;
  }
  char text[32];
  const int decimals = unit == 0 || bytes >= 99.95 ? 0 : bytes >= 9.995 ? 1 : 2;
  snprintf(text, sizeof text, "%.*f %s", decimals, bytes, units[unit]);
  return text;
}

std::string ProgressLine(const std::string& label, int64_t done, int64_t total, double rate,
                         Progress::Unit unit, int width) {
  std::string right = Amount(static_cast<double>(done), unit);
  if (total > 0) {
    done = std::min(done, total);
    right =
        Amount(static_cast<double>(done), unit) + " / " + Amount(static_cast<double>(total), unit);
  }
  if (unit == Progress::Unit::kBytes && rate > 0) right += "  " + HumanBytes(rate) + "/s";
  if (total > 0 && rate > 0) right += "  " + TimeLeft(static_cast<double>(total - done) / rate);
  std::string line = label + "  ";
  const int bar = std::min(40, width - 1 - static_cast<int>(line.size() + right.size() + 9));
  if (total > 0) {
    const double share = static_cast<double>(done) / static_cast<double>(total);
    if (bar >= 5) {
      const auto full = static_cast<size_t>(share * bar);
      line += '[';
      line.append(full, '#').append(static_cast<size_t>(bar) - full, '.');
      line += ']';
    }
    char percent[16];
    snprintf(percent, sizeof percent, "%4d%%  ", static_cast<int>(share * 100));
    line += percent;
  }
  line += right;
  if (static_cast<int>(line.size()) >= width)
    line.resize(static_cast<size_t>(std::max(1, width - 1)));
  return line;
}

Progress::Progress(std::string label, Unit unit)
    : label_(Printable(label)),
      unit_(unit),
      enabled_(IsTerminal(STDERR_FILENO)),
      start_(Clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (drawn_) fputs("\r\x1b[K", stderr);
}

void Progress::Update(int64_t done, int64_t total) {
  if (!enabled_) return;
  if (first_ < 0) first_ = done;
  const auto now = Clock::now();
  const double elapsed = Seconds(now - start_);
  if (elapsed < 0.5 || (drawn_ && Seconds(now - last_) < 0.1)) return;
  last_ = now;
  drawn_ = true;
  const double rate = static_cast<double>(done - first_) / elapsed;
  const std::string line =
      ProgressLine(label_, done, total, rate, unit_, TerminalWidth(STDERR_FILENO));
  fprintf(stderr, "\r%s\x1b[K", line.c_str());
  fflush(stderr);
}

}  // namespace hadal
