#include "train/metrics.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/file.h"
#include "train/internal_json.h"

namespace hadal {
namespace {

using internal::Digits;
using nlohmann::json;

constexpr size_t kMaxLine = size_t{64} << 20, kMostTasks = 1024;

Error SystemError(const std::string& path, const char* what) {
  return Error{Code::kIo, fmt::format("{}: cannot {}: {}", path, what, std::strerror(errno))};
}

// Bytes of the file up to and including its last line end; looks at the last kMaxLine only.
Result<off_t> WholeLines(int fd, const std::string& path) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return SystemError(path, "read");
  char block[4096];
  off_t end = info.st_size;
  while (end > 0) {
    const off_t start = std::max<off_t>(0, end - static_cast<off_t>(sizeof block));
    const ssize_t got = pread(fd, block, static_cast<size_t>(end - start), start);
    if (got != end - start) return SystemError(path, "read");
    const std::string_view text(block, static_cast<size_t>(got));
    const size_t at = text.rfind('\n');
    if (at != std::string_view::npos) return start + static_cast<off_t>(at) + 1;
    end = start;
    if (info.st_size - end > static_cast<off_t>(kMaxLine)) {
      return Error{Code::kCorrupt, path + ": not a file of lines; is this a metrics.jsonl?"};
    }
  }
  return off_t{0};
}

// Bytes before the first line of a step above `through`.
Result<off_t> LinesThrough(const std::string& path, off_t end, int64_t through) {
  if (end == 0 || through == std::numeric_limits<int64_t>::max()) return end;
  const MappedFile file = TRY(MappedFile::Open(path));
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              std::min(file.bytes().size(), static_cast<size_t>(end)));
  constexpr std::string_view kStart = R"({"step":)";
  for (size_t at = 0; at < text.size();) {
    const std::string_view line = text.substr(at, text.find('\n', at) - at);
    int64_t step = 0;
    if (line.starts_with(kStart)) {
      std::from_chars(line.data() + kStart.size(), line.data() + line.size(), step);
    }
    if (step > through) return static_cast<off_t>(at);
    at += line.size() + 1;
  }
  return end;
}

void ReadEvaluation(const json& object, StepRecord& record) {
  const auto it = object.find("evaluation");
  if (it == object.end() || !it->is_object()) return;
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  StepEvaluation& e = record.evaluation.emplace();
  e.pass_at_1 = internal::NumberOr(*it, "pass@1", kNone);
  e.answers = internal::IntegerOr(*it, "answers", 0);
  e.errors = internal::IntegerOr(*it, "errors", 0);
  e.seconds = internal::NumberOr(*it, "seconds", 0);
  const auto tasks = it->find("tasks");
  if (tasks == it->end() || !tasks->is_object()) return;
  for (const auto& [name, value] : tasks->items()) {
    if (e.tasks.size() == kMostTasks) break;
    e.tasks.emplace_back(name, value.is_number() ? value.get<double>() : kNone);
  }
}

std::string EvaluationText(const StepEvaluation& e) {
  std::string out = fmt::format(R"({{"pass@1":{},"answers":{},"errors":{},"seconds":{},"tasks":{{)",
                                Digits(e.pass_at_1), e.answers, e.errors, Digits(e.seconds));
  const char* comma = "";
  for (const auto& [name, value] : e.tasks) {
    out += fmt::format("{}{}:{}", comma, internal::Quoted(name), Digits(value));
    comma = ",";
  }
  return out + "}}";
}

void ReadExperts(const json& object, StepRecord& record) {
  const auto it = object.find("expert_tokens");
  if (it == object.end() || !it->is_array()) return;
  for (const json& layer : *it) {
    if (!layer.is_array()) continue;
    std::vector<int64_t> counts;
    counts.reserve(layer.size());
    for (const json& count : layer)
      counts.push_back(std::max<int64_t>(0, internal::ToInteger(count)));
    record.expert_tokens.push_back(std::move(counts));
  }
}

// Collects records by the rules of ReadMetrics.
class Collector {
 public:
  Collector(MetricsLog& log, int64_t expert_cells) : log_(log), budget_(expert_cells) {}

  void Add(StepRecord record) {
    auto& steps = log_.steps;
    if (!steps.empty() && record.step <= steps.back().step) {
      ++log_.rewinds;
      const auto from =
          std::lower_bound(steps.begin(), steps.end(), record.step,
                           [](const StepRecord& have, int64_t step) { return have.step < step; });
      for (auto it = from; it != steps.end(); ++it) cells_ -= Cells(*it);
      steps.erase(from, steps.end());
    }
    if (static_cast<int64_t>(steps.size()) % stride_ != 0) record.expert_tokens.clear();
    cells_ += Cells(record);
    steps.push_back(std::move(record));
    while (cells_ > budget_ && stride_ < (int64_t{1} << 40)) Thin();
  }

 private:
  static int64_t Cells(const StepRecord& record) {
    int64_t cells = 0;
    for (const auto& layer : record.expert_tokens) cells += static_cast<int64_t>(layer.size());
    return cells;
  }

  void Thin() {
    stride_ *= 2;
    cells_ = 0;
    for (size_t i = 0; i < log_.steps.size(); ++i) {
      auto& experts = log_.steps[i].expert_tokens;
      if (static_cast<int64_t>(i) % stride_ != 0) std::vector<std::vector<int64_t>>().swap(experts);
      cells_ += Cells(log_.steps[i]);
    }
  }

  MetricsLog& log_;
  int64_t budget_, cells_ = 0, stride_ = 1;
};

}  // namespace

double MaxOverMean(const std::vector<std::vector<int64_t>>& expert_tokens) {
  double worst = 0;
  for (const auto& layer : expert_tokens) {
    double sum = 0, most = 0;
    for (const int64_t count : layer) {
      sum += static_cast<double>(count);
      most = std::max(most, static_cast<double>(count));
    }
    if (sum > 0) worst = std::max(worst, most * static_cast<double>(layer.size()) / sum);
  }
  return worst;
}

std::string ToJsonLine(const StepRecord& r) {
  fmt::memory_buffer out;
  const auto end = std::back_inserter(out);
  fmt::format_to(end, R"({{"step":{},"loss":{})", r.step, Digits(r.loss));
  if (r.mtp_loss != 0) fmt::format_to(end, R"(,"mtp_loss":{})", Digits(r.mtp_loss));
  if (r.balance_loss != 0) fmt::format_to(end, R"(,"balance_loss":{})", Digits(r.balance_loss));
  if (r.distill_loss != 0) fmt::format_to(end, R"(,"distill_loss":{})", Digits(r.distill_loss));
  fmt::format_to(end, R"(,"grad_norm":{},"lr":{},"tokens":{},"total_tokens":{})",
                 Digits(r.grad_norm), Digits(r.lr), r.tokens, r.total_tokens);
  fmt::format_to(end, R"(,"seconds":{},"elapsed_seconds":{},"tokens_per_second":{})",
                 Digits(r.seconds), Digits(r.elapsed_seconds), Digits(r.tokens_per_second));
  fmt::format_to(end, R"(,"model_flops":{},"peak_share":{})", Digits(r.model_flops),
                 Digits(r.peak_share));
  if (r.validation_loss) {
    fmt::format_to(end, R"(,"validation_loss":{})", Digits(*r.validation_loss));
  }
  if (r.validation_bits_per_byte) {
    fmt::format_to(end, R"(,"validation_bits_per_byte":{})", Digits(*r.validation_bits_per_byte));
  }
  if (r.evaluation) fmt::format_to(end, R"(,"evaluation":{})", EvaluationText(*r.evaluation));
  if (r.max_over_mean_load != 0) {
    fmt::format_to(end, R"(,"max_over_mean_load":{})", Digits(r.max_over_mean_load));
  }
  if (r.skipped) fmt::format_to(end, R"(,"skipped":true)");
  if (!r.note.empty()) fmt::format_to(end, R"(,"note":{})", internal::Quoted(r.note));
  if (r.rss_bytes != 0) fmt::format_to(end, R"(,"rss_bytes":{})", r.rss_bytes);
  if (!r.expert_tokens.empty()) {
    fmt::format_to(end, R"(,"expert_tokens":[)");
    const char* comma = "";
    for (const auto& layer : r.expert_tokens) {
      fmt::format_to(end, "{}[{}]", comma, fmt::join(layer, ","));
      comma = ",";
    }
    fmt::format_to(end, "]");
  }
  fmt::format_to(end, "}}\n");
  return fmt::to_string(out);
}

Result<StepRecord> FromJsonLine(std::string_view line) {
  const json object = internal::ParseJson(line);
  if (!object.is_object() || !object.contains("step") || !object["step"].is_number()) {
    return Error{Code::kCorrupt, "not a record of a training step"};
  }
  using internal::IntegerOr, internal::NumberOr;
  StepRecord r;
  r.step = IntegerOr(object, "step", 0);
  r.loss = NumberOr(object, "loss", 0);
  r.mtp_loss = NumberOr(object, "mtp_loss", 0);
  r.balance_loss = NumberOr(object, "balance_loss", 0);
  r.distill_loss = NumberOr(object, "distill_loss", 0);
  r.grad_norm = NumberOr(object, "grad_norm", 0);
  r.lr = NumberOr(object, "lr", 0);
  r.tokens = IntegerOr(object, "tokens", 0);
  r.total_tokens = IntegerOr(object, "total_tokens", 0);
  r.seconds = NumberOr(object, "seconds", 0);
  r.elapsed_seconds = NumberOr(object, "elapsed_seconds", 0);
  r.tokens_per_second = NumberOr(object, "tokens_per_second", 0);
  r.model_flops = NumberOr(object, "model_flops", 0);
  r.peak_share = NumberOr(object, "peak_share", 0);
  r.max_over_mean_load = NumberOr(object, "max_over_mean_load", 0);
  r.validation_loss = internal::OptionalNumber(object, "validation_loss");
  r.validation_bits_per_byte = internal::OptionalNumber(object, "validation_bits_per_byte");
  r.skipped = internal::FlagOr(object, "skipped", false);
  r.note = internal::TextOr(object, "note", "");
  r.rss_bytes = static_cast<uint64_t>(std::max<int64_t>(0, IntegerOr(object, "rss_bytes", 0)));
  ReadEvaluation(object, r);
  ReadExperts(object, r);
  return r;
}

Result<MetricsWriter> MetricsWriter::Open(const std::string& path, int64_t through) {
  MetricsWriter writer;
  writer.path_ = path;
  writer.fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (writer.fd_ < 0) return SystemError(path, "open");
  const off_t keep = TRY(LinesThrough(path, TRY(WholeLines(writer.fd_, path)), through));
  if (lseek(writer.fd_, 0, SEEK_END) != keep && ftruncate(writer.fd_, keep) != 0) {
    return SystemError(path, "remove its last lines");
  }
  return writer;
}

MetricsWriter::MetricsWriter(MetricsWriter&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

MetricsWriter& MetricsWriter::operator=(MetricsWriter&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

MetricsWriter::~MetricsWriter() {
  if (fd_ >= 0) close(fd_);
}

Status MetricsWriter::Append(const StepRecord& record) { return AppendLines(ToJsonLine(record)); }

Status MetricsWriter::AppendLines(std::string_view lines) {
  const off_t start = lseek(fd_, 0, SEEK_END);
  size_t done = 0;
  while (done < lines.size()) {
    const ssize_t wrote = write(fd_, lines.data() + done, lines.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      Error error = SystemError(path_, "append");
      if (done > 0 && start >= 0 && ftruncate(fd_, start) != 0) error.message += "; a line is torn";
      return error;
    }
    done += static_cast<size_t>(wrote);
  }
  return {};
}

Status MetricsWriter::Sync() {
  if (fsync(fd_) != 0) return SystemError(path_, "sync");
  return {};
}

Result<MetricsLog> ReadMetrics(const std::string& path, int64_t expert_cells) {
  const MappedFile file = TRY(MappedFile::Open(path));
  std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  MetricsLog log;
  Collector collector(log, expert_cells);
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) {
      // A whole record may lack only its line end: it counts.
      const auto record = FromJsonLine(text);
      if (record.ok()) collector.Add(*record);
      log.torn = !record.ok();
      break;
    }
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto record = line.size() <= kMaxLine
                      ? FromJsonLine(line)
                      : Result<StepRecord>(Error{Code::kLimit, "line too long"});
    if (record.ok()) {
      collector.Add(*std::move(record));
    } else if (log.damaged_lines++ == 0) {
      log.first_damaged_line = number;
    }
  }
  return log;
}

}  // namespace hadal
