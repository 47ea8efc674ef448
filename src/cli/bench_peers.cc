#include "cli/bench_peers.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

extern char** environ;

namespace hadal::cli {
namespace {

using nlohmann::json;

constexpr size_t kMaxOutput = 16 << 20;

}  // namespace

Result<std::string> RunProgram(const std::vector<std::string>& words, bool quiet) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Error{Code::kIo, strerror(errno)};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (quiet) posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::vector<std::string> copy = words;
  std::vector<char*> argv;
  for (auto& w : copy) argv.push_back(w.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string output;
  if (!failed) {
    char chunk[4096];
    for (ssize_t n; (n = read(ends[0], chunk, sizeof chunk)) != 0;) {
      if (n < 0 && errno != EINTR) break;
      if (n > 0 && output.size() < kMaxOutput) output.append(chunk, static_cast<size_t>(n));
    }
  }
  close(ends[0]);
  if (failed) {
    return Error{Code::kNotFound, fmt::format("{}: cannot start: {}", words[0], strerror(failed))};
  }
  int state = 0;
  while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(state) && WEXITSTATUS(state) == 0) return output;
  return Error{Code::kUnsupported,
               fmt::format("{} failed (exit {}): run it by hand to see why", words[0],
                           WIFEXITED(state) ? WEXITSTATUS(state) : -1)};
}

Result<PeerSpeeds> ParseLlamaBench(const std::string& text) {
  const json runs = json::parse(text, nullptr, false);
  if (!runs.is_array()) return Error{Code::kCorrupt, "llama-bench printed no JSON list"};
  PeerSpeeds speeds;
  for (const json& r : runs) {
    if (!r.is_object() || !r.value("avg_ts", json()).is_number()) continue;
    const double speed = r["avg_ts"].get<double>();
    const json generated = r.value("n_gen", json());
    (generated.is_number() && generated > 0 ? speeds.decode : speeds.prefill) = speed;
  }
  if (speeds.decode > 0 && speeds.prefill > 0) return speeds;
  return Error{Code::kCorrupt, "llama-bench's JSON lacks avg_ts of a prompt or a generation run"};
}

namespace {

// "| PP | TG | B | N_KV | T_PP | S_PP | T_TG | S_TG | T | S |": the eighth figure, else 0.
double TableSpeed(std::string_view line) {
  for (int column = 0; column < 8; ++column) {
    const size_t bar = line.find('|');
    if (bar == std::string_view::npos) return 0;
    line.remove_prefix(bar + 1);
  }
  return std::strtod(std::string(line.substr(0, line.find('|'))).c_str(), nullptr);
}

}  // namespace

Result<double> ParseBatchedBench(const std::string& text) {
  double speed = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string text_line = text.substr(at, end - at);
    const json line = json::parse(text_line, nullptr, false);
    at = end + 1;
    if (line.is_object() && line.value("speed_tg", json()).is_number()) {
      speed = line["speed_tg"];
    } else if (const double in_table = TableSpeed(text_line); in_table > 0) {
      speed = in_table;
    }
  }
  if (speed > 0) return speed;
  return Error{Code::kCorrupt, "llama-batched-bench printed no speed_tg"};
}

Result<PeerSpeeds> RunLlamaBench(const PeerJob& job) {
  return ParseLlamaBench(TRY(RunProgram(
      {job.binary, "-m", job.model, "-t", std::to_string(job.threads), "-p",
       std::to_string(job.prompt), "-n", std::to_string(job.generate), "-r", "1", "-o", "json"})));
}

Result<double> RunBatchedBench(const PeerJob& job) {
  const int64_t context = job.parallel * (16 + job.generate) + 256;
  // Some builds print their figures as log lines, to stderr.
  return ParseBatchedBench(
      TRY(RunProgram({"sh", "-c", "exec \"$0\" \"$@\" 2>&1", job.binary, "-m", job.model, "-t",
                      std::to_string(job.threads), "-c", std::to_string(context), "-npp", "16",
                      "-ntg", std::to_string(job.generate), "-npl", std::to_string(job.parallel),
                      "--output-format", "jsonl"})));
}

}  // namespace hadal::cli
