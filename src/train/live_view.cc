#include "train/live_view.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/progress.h"
#include "base/terminal.h"
#include "train/figures.h"

namespace hadal {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kBlocks[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
constexpr double kRedrawSeconds = 0.1;

// Columns of UTF-8 text without control codes. From U+3000 on a character counts as two, as most of
// those do: a line may come out too short, never too long.
size_t Columns(std::string_view text) {
  size_t columns = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xc0) == 0x80) continue;
    columns += byte >= 0xe3 ? 2 : 1;
  }
  return columns;
}

// The first `columns` columns of the text.
std::string Cut(std::string_view text, size_t columns) {
  std::string out;
  size_t used = 0;
  for (size_t i = 0; i < text.size();) {
    size_t next = i + 1;
    while (next < text.size() && (static_cast<unsigned char>(text[next]) & 0xc0) == 0x80) ++next;
    used += Columns(text.substr(i, next - i));
    if (used > columns) break;
    out += text.substr(i, next - i);
    i = next;
  }
  return out;
}

// A line of labelled figures that never grows wider than the terminal: what does not fit is left
// out from the end, a whole part at a time.
class Line {
 public:
  Line(size_t width, bool color) : width_(width), color_(color) {}

  Line& Label(const std::string& label, const std::string& value) {
    const size_t gap = used_ == 0 ? 0 : 3;
    const size_t space = label.empty() ? 0 : Columns(label) + 1;
    if (used_ + gap + space + Columns(value) > width_) {
      if (used_ > 0) return *this;
      return Plain(Cut(label.empty() ? value : label + " " + value, width_));
    }
    out_.append(gap, ' ');
    if (!label.empty()) out_ += Code("2") + label + Code("0") + " ";
    out_ += value;
    used_ += gap + space + Columns(value);
    return *this;
  }
  Line& Plain(const std::string& text) {
    out_ += text;
    used_ += Columns(text);
    return *this;
  }
  Line& Bold(const std::string& text) {
    out_ += Code("1") + text + Code("0");
    used_ += Columns(text);
    return *this;
  }
  size_t left() const { return width_ - std::min(width_, used_); }
  std::string text() const { return out_; }

 private:
  std::string Code(const char* code) const {
    return color_ ? fmt::format("\x1b[{}m", code) : std::string();
  }

  size_t width_, used_ = 0;
  bool color_;
  std::string out_;
};

std::string OneLine(const std::string& text) {
  std::string out = Printable(text);
  std::replace(out.begin(), out.end(), '\n', ' ');
  std::replace(out.begin(), out.end(), '\t', ' ');
  return out;
}

std::string ShareBar(double share, size_t columns) {
  share = std::isfinite(share) ? std::clamp(share, 0.0, 1.0) : 0;
  const auto full = static_cast<size_t>(share * static_cast<double>(columns));
  std::string out;
  for (size_t i = 0; i < columns; ++i) out += i < full ? "█" : "░";
  return out;
}

std::string MoneySoFar(const Ledger& ledger) {
  std::string text = HumanNumber(ledger.core_hours(), 3) + " core-hours";
  if (const auto money = ledger.money()) {
    text += " = " + HumanMoney(*money, OneLine(ledger.currency).substr(0, 8));
  }
  return text;
}

double SecondsLeft(const LiveState& s) {
  const auto steps = static_cast<double>(std::max<int64_t>(0, s.total_steps - s.last.step));
  return steps * s.seconds_per_step;
}

std::string Head(const LiveState& s, size_t width, bool color) {
  Line line(width, color);
  const std::string title = Cut(OneLine(s.title), width / 3);
  if (!title.empty()) line.Bold(title);
  if (s.total_steps <= 0) return line.Label("step", Grouped(s.last.step)).text();
  const double share = static_cast<double>(s.last.step) / static_cast<double>(s.total_steps);
  line.Label("step", Grouped(s.last.step) + "/" + Grouped(s.total_steps));
  line.Label("left", HumanTime(SecondsLeft(s)));
  if (line.left() > 13) {
    line.Label("", ShareBar(share, std::min<size_t>(40, line.left() - 9)));
    line.Plain(fmt::format(" {:3.0f} %", 100 * std::clamp(share, 0.0, 1.0)));
  }
  return line.text();
}

std::string LossLine(const LiveState& s, size_t width, bool color) {
  Line line(width, color);
  line.Label("loss", HumanNumber(s.last.loss));
  std::string validation;
  if (s.validation_loss) {
    validation = HumanNumber(*s.validation_loss);
    if (s.validation_bits_per_byte) {
      validation += " (" + HumanNumber(*s.validation_bits_per_byte) + " bits/byte)";
    }
  }
  const size_t tail = validation.empty() ? 0 : Columns(validation) + 14;
  if (line.left() > tail + 11) {
    line.Label("", Sparkline(s.losses, std::min<size_t>(60, line.left() - tail - 3)));
  }
  if (!validation.empty()) line.Label("validation", validation);
  return line.text();
}

std::string OptimiserLine(const LiveState& s, size_t width, bool color) {
  Line line(width, color);
  line.Label("lr", HumanNumber(s.last.lr, 3)).Label("gradient", HumanNumber(s.last.grad_norm, 3));
  if (s.last.mtp_loss != 0) line.Label("mtp", HumanNumber(s.last.mtp_loss));
  if (s.last.distill_loss != 0) line.Label("distill", HumanNumber(s.last.distill_loss));
  if (s.last.balance_loss != 0) line.Label("balance", HumanNumber(s.last.balance_loss, 3));
  if (s.skipped_steps > 0) line.Label("skipped", Grouped(s.skipped_steps));
  return line.text();
}

std::string SpeedLine(const LiveState& s, size_t width, bool color) {
  Line line(width, color);
  line.Label("", HumanCount(s.last.tokens_per_second) + " tok/s");
  line.Label("", HumanShare(s.last.peak_share) + " of peak");
  line.Label("tokens", HumanCount(static_cast<double>(s.last.total_tokens)));
  line.Label("elapsed", HumanTime(s.last.elapsed_seconds));
  return line.text();
}

std::string CostLine(const LiveState& s, size_t width, bool color) {
  Line line(width, color);
  line.Label("cost", MoneySoFar(s.ledger));
  if (const auto joules = s.ledger.joules()) {
    line.Label("energy", HumanNumber(*joules / 3.6e6, 3) + " kWh");
  }
  line.Label("memory", HumanBytes(static_cast<double>(s.last.rss_bytes)));
  return line.text();
}

// The experts of the layer whose balance is worst, in order, full height = twice the mean.
std::string ExpertLine(const LiveState& s, size_t width, bool color) {
  const auto& layers = s.last.expert_tokens;
  size_t worst = 0;
  double ratio = -1;
  for (size_t i = 0; i < layers.size(); ++i) {
    const double r = MaxOverMean({layers[i]});
    if (r > ratio) worst = i, ratio = r;
  }
  Line line(width, color);
  line.Label("experts max/mean", HumanNumber(s.last.max_over_mean_load, 3));
  if (layers.empty() || layers[worst].empty() || ratio <= 0) return line.text();
  const auto& counts = layers[worst];
  double sum = 0;
  for (const int64_t count : counts) sum += static_cast<double>(count);
  const double mean = sum / static_cast<double>(counts.size());
  const std::string label = fmt::format("MoE layer {}", worst);
  if (line.left() < label.size() + 12) return line.text();
  const size_t columns = std::min(line.left() - label.size() - 5, counts.size());
  std::string bar;
  for (size_t i = 0; i < columns; ++i) {
    const size_t from = i * counts.size() / columns, to = (i + 1) * counts.size() / columns;
    int64_t most = 0;
    for (size_t e = from; e < to; ++e) most = std::max(most, counts[e]);
    const double height = std::clamp(4 * static_cast<double>(most) / mean, 0.0, 7.0);
    bar += kBlocks[static_cast<size_t>(height)];
  }
  return line.Label(label, bar).text();
}

std::string EvaluationLine(const LiveState& s, size_t width, bool color) {
  Line line(width, color);
  line.Label("pass@1", HumanShare(s.evaluation->pass_at_1));
  line.Label("answers", Grouped(s.evaluation->answers));
  if (s.evaluation->errors > 0) line.Label("not graded", Grouped(s.evaluation->errors));
  return line.Label("at step", Grouped(s.evaluation_step)).text();
}

}  // namespace

void LiveState::Add(const StepRecord& record) {
  last = record;
  if (record.validation_loss) {
    best_validation = validation_loss ? std::min(best_validation, *record.validation_loss)
                                      : *record.validation_loss;
    validation_loss = record.validation_loss;
  }
  if (record.validation_bits_per_byte) validation_bits_per_byte = record.validation_bits_per_byte;
  if (record.evaluation) {
    evaluation = record.evaluation;
    evaluation_step = record.step;
  }
  if (record.skipped) ++skipped_steps;
  if (record.seconds > 0 && std::isfinite(record.seconds)) {
    seconds_per_step =
        seconds_per_step == 0 ? record.seconds : 0.9 * seconds_per_step + 0.1 * record.seconds;
  }
  if (record.step % loss_stride != 0) return;
  losses.push_back(record.loss);
  if (losses.size() <= kHistory) return;
  loss_stride *= 2;
  for (size_t i = 0; 2 * i < losses.size(); ++i) losses[i] = losses[2 * i];
  losses.resize((losses.size() + 1) / 2);
}

std::string Sparkline(const std::vector<double>& values, size_t columns) {
  columns = std::min(columns, values.size());
  std::vector<double> means(columns, std::numeric_limits<double>::quiet_NaN());
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (size_t i = 0; i < columns; ++i) {
    double sum = 0;
    int64_t count = 0;
    for (size_t j = i * values.size() / columns; j < (i + 1) * values.size() / columns; ++j) {
      if (!std::isfinite(values[j])) continue;
      sum += values[j];
      ++count;
    }
    if (count == 0) continue;
    means[i] = sum / static_cast<double>(count);
    if (!std::isfinite(means[i])) continue;
    low = std::min(low, means[i]);
    high = std::max(high, means[i]);
  }
  std::string out;
  for (const double mean : means) {
    if (!std::isfinite(mean)) {
      out += ' ';
      continue;
    }
    const double height = high > low ? (mean / 2 - low / 2) / (high / 2 - low / 2) : 0;
    out += kBlocks[static_cast<size_t>(std::clamp(height * 7.999, 0.0, 7.0))];
  }
  return out;
}

std::vector<std::string> LiveLines(const LiveState& state, int width, bool color) {
  const auto columns = static_cast<size_t>(std::max(12, width) - 1);
  std::vector<std::string> lines = {Head(state, columns, color), LossLine(state, columns, color),
                                    OptimiserLine(state, columns, color),
                                    SpeedLine(state, columns, color),
                                    CostLine(state, columns, color)};
  if (!state.last.expert_tokens.empty() || state.last.max_over_mean_load > 0) {
    lines.push_back(ExpertLine(state, columns, color));
  }
  if (state.evaluation) lines.push_back(EvaluationLine(state, columns, color));
  return lines;
}

std::string PlainLine(const LiveState& s) {
  const StepRecord& r = s.last;
  std::string out = "step " + std::to_string(r.step);
  if (s.total_steps > 0) out += "/" + std::to_string(s.total_steps);
  out += fmt::format("  loss {}", HumanNumber(r.loss));
  if (r.validation_loss) out += "  validation " + HumanNumber(*r.validation_loss);
  if (r.validation_bits_per_byte) {
    out += "  bits/byte " + HumanNumber(*r.validation_bits_per_byte);
  }
  if (r.evaluation) out += "  pass@1 " + HumanShare(r.evaluation->pass_at_1);
  out += fmt::format("  lr {}  gradient {}  {} tok/s  {} of peak", HumanNumber(r.lr, 3),
                     HumanNumber(r.grad_norm, 3), HumanCount(r.tokens_per_second),
                     HumanShare(r.peak_share));
  if (r.max_over_mean_load > 0) out += "  max/mean " + HumanNumber(r.max_over_mean_load, 3);
  if (s.total_steps > 0) out += "  left " + HumanTime(SecondsLeft(s));
  out += "  " + MoneySoFar(s.ledger);
  if (r.skipped) out += "  skipped";
  if (!r.note.empty()) out += "  " + OneLine(r.note);
  return out;
}

LiveView::LiveView(const LiveOptions& options) : options_(options) {
  state_.title = options.title;
  state_.total_steps = options.total_steps;
  const char* term = std::getenv("TERM");
  const char* no_color = std::getenv("NO_COLOR");
  in_place_ = IsTerminal(options.fd) && (term == nullptr || std::string_view(term) != "dumb");
  color_ = in_place_ && (no_color == nullptr || *no_color == '\0');
}

LiveView::~LiveView() {
  if (pending_) Draw();
}

void LiveView::Write(const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = write(options_.fd, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return;  // a closed pipe must not end a training
    done += static_cast<size_t>(wrote);
  }
}

void LiveView::Draw() {
  std::string out;
  if (drawn_lines_ > 0) out += fmt::format("\x1b[{}A\r", drawn_lines_);
  const auto lines = LiveLines(state_, TerminalWidth(options_.fd), color_);
  for (const std::string& line : lines) out += line + "\x1b[K\n";
  out += "\x1b[J";
  drawn_lines_ = static_cast<int>(lines.size());
  Write(out);
  pending_ = false;
  last_draw_ = Clock::now();
}

void LiveView::Print(const std::string& line) {
  if (!in_place_) {
    Write(OneLine(line) + "\n");
    return;
  }
  // The view is wiped, the message takes its first line and the view follows below.
  std::string out = drawn_lines_ > 0 ? fmt::format("\x1b[{}A\r\x1b[J", drawn_lines_) : "";
  drawn_lines_ = 0;
  Write(out + OneLine(line) + "\n");
  if (state_.last.step > 0) Draw();
}

void LiveView::Update(const StepRecord& record, const Ledger& so_far) {
  const bool first = state_.losses.empty();
  state_.Add(record);
  state_.ledger = so_far;
  const bool event =
      record.validation_loss || record.evaluation || record.skipped || !record.note.empty();
  if (!in_place_) {
    const bool due = options_.plain_every > 0 && record.step % options_.plain_every == 0;
    const bool end = state_.total_steps > 0 && record.step >= state_.total_steps;
    if (first || due || end || event) Write(PlainLine(state_) + "\n");
    return;
  }
  if (record.skipped || !record.note.empty()) {
    Print(fmt::format("step {}: {}{}", record.step, record.skipped ? "skipped " : "", record.note));
  }
  pending_ = true;
  const std::chrono::duration<double> since = Clock::now() - last_draw_;
  if (first || event || since.count() >= kRedrawSeconds) Draw();
}

}  // namespace hadal
