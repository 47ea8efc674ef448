// Charts as inline SVG, coloured by the page's CSS variables, so that they follow light and dark.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hadal::internal {

// Text for HTML content and quoted attributes: printable (base/terminal.h), & < > " ' escaped.
std::string EscapeHtml(std::string_view text);

enum class Figure : uint8_t { kNumber, kCount, kShare };

struct Series {
  std::string name;
  std::vector<double> x, y;  // of one length, x increasing; y that is not finite leaves a gap
  bool points = false;       // marks besides the line: few values
};

inline constexpr size_t kSeriesColors = 8;

struct ChartSpec {
  std::string title;           // also read aloud
  std::vector<Series> series;  // kSeriesColors at most have colours of their own
  std::string x_name = "step";
  Figure figure = Figure::kNumber;
  bool from_zero = false;
  int width = 400, height = 230;
};
// Long series are averaged into as many bins as the chart has room for, their spread drawn as a
// band. Spikes far above the rest are cut at the upper edge, so that they do not flatten everything
// else. A chart without a finite value says so.
std::string LineChart(const ChartSpec& spec);

// A map of values around 1 (a load as a multiple of its mean): below 1/2 and above 2 saturate, NaN
// is left blank. values: [rows][columns]. As wide as its place, height in pixels.
std::string HeatMap(const std::string& title, const std::vector<std::vector<double>>& values,
                    int height);
// What the colours of HeatMap mean.
std::string HeatLegend();

// A share and its confidence interval on a line from 0 to 1.
std::string IntervalBar(double value, double low, double high);

}  // namespace hadal::internal
