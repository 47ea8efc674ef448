// A progress bar on stderr, drawn only when stderr is a terminal and the work takes a while.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace hadal {

// "7.3 MB", "512 B": decimal units, three significant digits.
std::string HumanBytes(double bytes);

class Progress {
 public:
  enum class Unit { kBytes, kCount };
  explicit Progress(std::string label, Unit unit = Unit::kBytes);
  ~Progress();  // erases the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // total <= 0: unknown. Draws at most ten times a second, and never in the first 0.5 s.
  void Update(int64_t done, int64_t total);

 private:
  std::string label_;
  Unit unit_;
  bool enabled_, drawn_ = false;
  std::chrono::steady_clock::time_point start_, last_;
  int64_t first_ = -1;  // where the work stood at the first Update: a resumed download
};

// The line that a bar shows, without the carriage return; for Progress and its test.
std::string ProgressLine(const std::string& label, int64_t done, int64_t total, double rate,
                         Progress::Unit unit, int width);

}  // namespace hadal
