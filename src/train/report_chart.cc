#include "train/report_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "base/terminal.h"
#include "train/figures.h"

namespace hadal::internal {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
constexpr double kHuge = 1e30;  // beyond, a value is damage and no chart can show it
constexpr size_t kHoverPoints = 60;
constexpr int kHeatLevels = 9;

bool Shown(double value) { return std::isfinite(value) && std::abs(value) <= kHuge; }

struct Bin {
  double x = 0, mean = kNone, low = kNone, high = kNone;
};

// The series in at most `most` bins of equal counts; gaps stay gaps when a whole bin has no value.
std::vector<Bin> Binned(const Series& series, size_t most) {
  const size_t size = std::min(series.x.size(), series.y.size());
  const size_t bins = std::min(size, most);
  std::vector<Bin> out(bins);
  for (size_t i = 0; i < bins; ++i) {
    const size_t from = i * size / bins, to = (i + 1) * size / bins;
    Bin& bin = out[i];
    double sum = 0;
    int64_t count = 0;
    for (size_t j = from; j < to; ++j) {
      const double y = series.y[j];
      if (!Shown(y)) continue;
      sum += y;
      bin.low = count == 0 ? y : std::min(bin.low, y);
      bin.high = count == 0 ? y : std::max(bin.high, y);
      ++count;
    }
    bin.x = series.x[from + (to - from) / 2];
    if (count > 0) bin.mean = sum / static_cast<double>(count);
  }
  return out;
}

struct Axis {
  double low = 0, high = 1, step = 0.2;
};

// An axis over [low, high] whose ticks are 1, 2 or 5 times a power of ten apart.
Axis NiceAxis(double low, double high, int ticks) {
  if (!(high - low > 1e-12 * std::max(std::abs(low), std::abs(high))) || high - low < 1e-30) {
    const double pad = std::abs(low) < 1e-30 ? 1 : std::abs(low) * 0.1;
    low -= pad;
    high += pad;
  }
  const double raw = (high - low) / ticks, power = std::pow(10, std::floor(std::log10(raw)));
  const double lead = raw / power;
  const double step = power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
  return {low, high, step};
}

std::vector<double> Ticks(const Axis& axis) {
  std::vector<double> ticks;
  const double first = std::ceil(axis.low / axis.step - 1e-9);
  for (int i = 0; i < 16; ++i) {
    const double value = (first + i) * axis.step;
    if (value > axis.high + 1e-9 * axis.step) break;
    ticks.push_back(std::abs(value) < 1e-9 * axis.step ? 0 : value);
  }
  return ticks;
}

std::string TickLabel(double value, Figure figure) {
  if (figure == Figure::kShare) return fmt::format("{:.4g} %", 100 * value);
  const double size = std::abs(value);
  if (size > 0 && size < 0.0095) {
    const int power = static_cast<int>(std::floor(std::log10(size) + 1e-9));
    return fmt::format("{:.3g}e{}", value / std::pow(10, power), power);
  }
  const char* const units[] = {"", "k", "M", "G", "T", "P"};
  size_t unit = 0;
  for (double left = size; left >= 1000 && unit + 1 < std::size(units); left /= 1000) ++unit;
  return fmt::format("{:.4g}{}", value / std::pow(1000, static_cast<double>(unit)), units[unit]);
}

std::string ValueLabel(double value, Figure figure) {
  switch (figure) {
    case Figure::kShare:
      return HumanShare(value);
    case Figure::kCount:
      return HumanCount(value);
    default:
      return HumanNumber(value);
  }
}

class Drawing {
 public:
  explicit Drawing(const ChartSpec& spec) : spec_(spec) {
    for (const Series& s : spec.series) {
      bins_.push_back(Binned(s, static_cast<size_t>(spec.width) * 2 / 3));
    }
  }

  std::string Svg() {
    fmt::format_to(end(), R"(<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">)",
                   spec_.width, spec_.height, EscapeHtml(spec_.title));
    if (!FindRange()) {
      fmt::format_to(end(), R"(<text class="tick" x="50%" y="50%" text-anchor="middle">{}</text>)",
                     "no finite value");
      return fmt::to_string(out_) + "</svg>";
    }
    Grid();
    for (size_t i = 0; i < bins_.size(); ++i) Band(i);
    for (size_t i = 0; i < bins_.size(); ++i) Curve(i);
    for (size_t i = 0; i < bins_.size(); ++i) Hover(i);
    if (cut_) {
      fmt::format_to(end(), R"(<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>)",
                     spec_.width - kRight, kTop - 3, "▲ higher values cut");
    }
    return fmt::to_string(out_) + "</svg>";
  }

 private:
  static constexpr double kLeft = 50, kRight = 10, kTop = 14, kBottom = 24;

  std::back_insert_iterator<fmt::memory_buffer> end() { return std::back_inserter(out_); }

  bool FindRange() {
    std::vector<double> ys;
    double x_low = kHuge, x_high = -kHuge;
    for (const auto& bins : bins_) {
      for (const Bin& bin : bins) {
        if (!Shown(bin.mean) || !Shown(bin.x)) continue;
        x_low = std::min(x_low, bin.x);
        x_high = std::max(x_high, bin.x);
        ys.push_back(bin.low);
        ys.push_back(bin.high);
      }
    }
    if (ys.empty()) return false;
    std::sort(ys.begin(), ys.end());
    double low = ys.front(), high = ys.back();
    const double usual = ys[(ys.size() - 1) * 98 / 100];
    const double span = std::max(usual - low, 0.1 * std::abs(usual));
    if (span > 0 && high > usual + 2 * span) {
      high = usual + 0.3 * span;
      cut_ = true;
    }
    if (spec_.from_zero) low = std::min(low, 0.0);
    if (spec_.from_zero && low == high) high = low + 1;
    const double pad = 0.04 * (high - low);
    y_ = NiceAxis(spec_.from_zero && low == 0 ? 0 : low - pad, high + pad, 6);
    x_ = NiceAxis(x_low, x_high, spec_.width > 600 ? 10 : 5);
    return true;
  }

  double X(double x) const {
    return kLeft + (x - x_.low) / (x_.high - x_.low) * (spec_.width - kLeft - kRight);
  }
  double Y(double y) const {
    const double share = (std::clamp(y, y_.low, y_.high) - y_.low) / (y_.high - y_.low);
    return spec_.height - kBottom - share * (spec_.height - kBottom - kTop);
  }

  void Grid() {
    for (const double y : Ticks(y_)) {
      fmt::format_to(end(), R"(<path class="grid" d="M{} {:.1f}H{}"/>)", kLeft, Y(y),
                     spec_.width - kRight);
      fmt::format_to(end(), R"(<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>)",
                     kLeft - 6, Y(y) + 3.5, TickLabel(y, spec_.figure));
    }
    for (const double x : Ticks(x_)) {
      if (x != std::floor(x)) continue;  // steps are whole
      fmt::format_to(end(),
                     R"(<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>)", X(x),
                     spec_.height - 8, TickLabel(x, Figure::kNumber));
    }
  }

  // The spread inside bins of several steps, one closed shape between gaps.
  void Band(size_t index) {
    const auto& bins = bins_[index];
    if (bins.size() == std::min(spec_.series[index].x.size(), spec_.series[index].y.size())) return;
    for (size_t i = 0; i < bins.size();) {
      size_t to = i;
      while (to < bins.size() && Shown(bins[to].mean)) ++to;
      if (to > i + 1) {
        fmt::format_to(end(), R"(<path class="band c{}" d="M)", index);
        for (size_t j = i; j < to; ++j) {
          fmt::format_to(end(), "{:.1f} {:.1f} ", X(bins[j].x), Y(bins[j].high));
        }
        for (size_t j = to; j-- > i;) {
          fmt::format_to(end(), "{:.1f} {:.1f} ", X(bins[j].x), Y(bins[j].low));
        }
        fmt::format_to(end(), "Z\"/>");
      }
      i = to + 1;
    }
  }

  void Curve(size_t index) {
    const auto& bins = bins_[index];
    std::string path;
    bool down = false;
    for (size_t i = 0; i < bins.size(); ++i) {
      if (!Shown(bins[i].mean)) {
        down = down && spec_.series[index].points;  // between few values a line helps the eye
        continue;
      }
      path += fmt::format("{}{:.1f} {:.1f}", down ? "L" : "M", X(bins[i].x), Y(bins[i].mean));
      const bool lonely = !down && (i + 1 == bins.size() || !Shown(bins[i + 1].mean));
      if (lonely && !spec_.series[index].points) path += "h.01";  // a dot: the cap is round
      down = true;
    }
    if (!path.empty()) {
      fmt::format_to(end(), R"(<path class="line c{}" d="{}"/>)", index, path);
    }
    if (!spec_.series[index].points) return;
    for (const Bin& bin : bins) {
      if (!Shown(bin.mean)) continue;
      fmt::format_to(end(), R"(<circle class="dot c{}" cx="{:.1f}" cy="{:.1f}" r="2.6"/>)", index,
                     X(bin.x), Y(bin.mean));
    }
  }

  void Hover(size_t index) {
    const auto& bins = bins_[index];
    const size_t stride = bins.size() / kHoverPoints + 1;
    for (size_t i = 0; i < bins.size(); i += stride) {
      if (!Shown(bins[i].mean)) continue;
      fmt::format_to(
          end(),
          R"(<circle class="hover c{}" cx="{:.1f}" cy="{:.1f}" r="5"><title>{}</title></circle>)",
          index, X(bins[i].x), Y(bins[i].mean),
          EscapeHtml(fmt::format(
              "step {}: {} {}", Grouped(static_cast<int64_t>(std::clamp(bins[i].x, -9e18, 9e18))),
              spec_.series[index].name, ValueLabel(bins[i].mean, spec_.figure))));
    }
  }

  const ChartSpec& spec_;
  std::vector<std::vector<Bin>> bins_;
  Axis x_, y_;
  bool cut_ = false;
  fmt::memory_buffer out_;
};

// -4 .. 4 by the logarithm of the ratio, as 0 .. 8; -1 for a blank.
int HeatLevel(double ratio) {
  if (std::isnan(ratio)) return -1;
  if (ratio <= 0.5) return 0;
  if (ratio >= 2) return kHeatLevels - 1;
  return static_cast<int>(std::lround(4 * std::log2(ratio))) + kHeatLevels / 2;
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  std::string out;
  for (const char c : Printable(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string LineChart(const ChartSpec& spec) { return Drawing(spec).Svg(); }

std::string HeatMap(const std::string& title, const std::vector<std::vector<double>>& values,
                    int height) {
  size_t columns = 0;
  for (const auto& row : values) columns = std::max(columns, row.size());
  std::string paths[kHeatLevels];
  for (size_t y = 0; y < values.size(); ++y) {
    const auto& row = values[y];
    for (size_t x = 0; x < row.size();) {
      const int level = HeatLevel(row[x]);
      size_t to = x + 1;
      while (to < row.size() && HeatLevel(row[to]) == level) ++to;
      if (level >= 0) {
        paths[level] += fmt::format("M{} {}h{}v1h-{}z", x, y, to - x, to - x);
      }
      x = to;
    }
  }
  std::string out = fmt::format(
      R"(<svg class="heat" style="height:{}px" viewBox="0 0 {} {}" preserveAspectRatio="none" )"
      R"(role="img" aria-label="{}">)",
      height, std::max<size_t>(1, columns), std::max<size_t>(1, values.size()), EscapeHtml(title));
  for (int level = 0; level < kHeatLevels; ++level) {
    if (paths[level].empty()) continue;
    out += fmt::format(R"(<path class="h{}" d="{}"/>)", level, paths[level]);
  }
  return out + "</svg>";
}

std::string HeatLegend() {
  std::string out = R"(<span class="scale">½×<svg viewBox="0 0 9 1" aria-hidden="true">)";
  for (int level = 0; level < kHeatLevels; ++level) {
    out += fmt::format(R"(<path class="h{}" d="M{} 0h1v1h-1z"/>)", level, level);
  }
  return out + "</svg>2× the mean</span>";
}

std::string IntervalBar(double value, double low, double high) {
  std::string out = R"(<svg class="interval" viewBox="0 0 100 10" aria-hidden="true">)";
  out += R"(<path class="grid" d="M0 5H100"/>)";
  const auto place = [](double share) { return 100 * std::clamp(share, 0.0, 1.0); };
  if (std::isfinite(low) && std::isfinite(high)) {
    out += fmt::format(R"(<path class="range" d="M{:.1f} 5H{:.1f}"/>)", place(low), place(high));
  }
  if (std::isfinite(value)) {
    out += fmt::format(R"(<circle class="mark" cx="{:.1f}" cy="5" r="3"/>)", place(value));
  }
  return out + "</svg>";
}

}  // namespace hadal::internal
