#include "train/ledger.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/thread_pool.h"
#include "train/internal_json.h"

namespace hadal {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kPollSeconds = 10;
constexpr uint64_t kMaxLedgerBytes = 16 << 20;

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

double Seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
}

rusage Usage() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage;
}

double CoreSeconds() {
  const rusage usage = Usage();
  return Seconds(usage.ru_utime) + Seconds(usage.ru_stime);
}

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof name - 1) == 0 ? name : "";
}

std::string CpuName() {
  const auto text = ReadFile("/proc/cpuinfo");
  if (!text.ok()) return "unknown";
  for (const std::string_view key : {"model name", "Model", "Hardware"}) {
    const size_t at = text->find(std::string(key) + "\t");
    if (at == std::string::npos) continue;
    const size_t colon = text->find(": ", at), end = text->find('\n', at);
    if (colon < end && end != std::string::npos) return text->substr(colon + 2, end - colon - 2);
  }
  return "unknown";
}

// A file that holds one whole number, as the system's counters do.
std::optional<uint64_t> ReadCounter(const std::string& file) {
  const auto text = ReadFile(file, 4096);
  if (!text.ok()) return std::nullopt;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end == text->data()) return std::nullopt;
  return value;
}

std::string FirstLine(const std::string& file) {
  const auto text = ReadFile(file, 4096);
  return text.ok() ? text->substr(0, text->find('\n')) : "";
}

std::vector<std::string> Entries(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

LedgerMachine* FindHost(std::vector<LedgerMachine>& machines, const LedgerMachine& like) {
  for (LedgerMachine& m : machines) {
    if (m.host == like.host && m.cpu == like.cpu) return &m;
  }
  return nullptr;
}

std::optional<double> OptionalSum(std::optional<double> a, std::optional<double> b) {
  if (!a || !b) return std::nullopt;
  return *a + *b;
}

std::string MergeSources(const std::string& a, const std::string& b) {
  return a.empty() || a == b ? b : b.empty() ? a : a + "; " + b;
}

int64_t AddClamped(int64_t a, int64_t b) {
  int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<int64_t>::max() : sum;
}

// Parameters of one MTP layer that multiply for a token: its block, eh_proj and norms, and the
// head.
double ActiveMtpParameters(const ModelConfig& c, const ModelCounts& n) {
  const int64_t block = c.moe(c.layers) ? n.moe_layer - (c.gate.experts - c.gate.top_k) * n.expert
                                        : n.dense_ffn_layer;
  return static_cast<double>(block + 2 * c.width * c.width + 3 * c.width + n.embedding);
}

}  // namespace

double TrainFlops::Of(double tokens, double pairs, bool mtp) const {
  return tokens * (per_token + (mtp ? mtp_per_token : 0)) +
         pairs * (per_pair + (mtp ? mtp_per_pair : 0));
}

double TrainFlops::PerToken(int64_t seq_len, bool mtp) const {
  return Of(1, 0.5 * (static_cast<double>(seq_len) + 1), mtp);
}

TrainFlops CountTrainFlops(const ModelConfig& c) {
  const ModelCounts n = Count(c);
  const int64_t value_dim = c.mla() ? c.v_dim : c.head_dim;
  const double pair_of_layer = 6.0 * static_cast<double>(c.heads * (c.q_head_dim() + value_dim));
  TrainFlops flops;
  flops.per_token = 6.0 * static_cast<double>(n.active_without_embedding);
  flops.per_pair = static_cast<double>(c.layers) * pair_of_layer;
  if (c.mtp_layers > 0) {
    const auto layers = static_cast<double>(c.mtp_layers);
    flops.mtp_per_token = 6.0 * layers * ActiveMtpParameters(c, n);
    flops.mtp_per_pair = layers * pair_of_layer;
  }
  return flops;
}

double TrainFlopsPerToken(const ModelConfig& config, int64_t seq_len) {
  return CountTrainFlops(config).PerToken(seq_len);
}

double Ledger::available_core_hours() const {
  double sum = 0;
  for (const LedgerMachine& m : machines) sum += m.available_core_seconds;
  return sum / 3600;
}

std::optional<double> Ledger::joules() const {
  if (machines.empty()) return std::nullopt;
  std::optional<double> sum = 0.0;
  for (const LedgerMachine& m : machines) sum = OptionalSum(sum, m.joules);
  return sum;
}

std::optional<double> Ledger::money() const {
  if (!price_per_core_hour) return std::nullopt;
  return core_hours() * *price_per_core_hour;
}

std::optional<double> Ledger::rented_money() const {
  if (!price_per_core_hour) return std::nullopt;
  return available_core_hours() * *price_per_core_hour;
}

std::string Ledger::ToJson() const {
  ordered_json list = ordered_json::array();
  for (const LedgerMachine& m : machines) {
    ordered_json entry = {{"host", m.host},
                          {"cpu", m.cpu},
                          {"cores", m.cores},
                          {"available_core_seconds", m.available_core_seconds}};
    if (m.joules) entry["joules"] = *m.joules;
    list.push_back(std::move(entry));
  }
  ordered_json out = {{"tokens", tokens},
                      {"train_flops", train_flops},
                      {"core_seconds", core_seconds},
                      {"core_hours", core_hours()},
                      {"available_core_hours", available_core_hours()},
                      {"wall_seconds", wall_seconds},
                      {"peak_rss_bytes", peak_rss_bytes},
                      {"sessions", sessions},
                      {"ranks", ranks},
                      {"machines", std::move(list)}};
  if (const auto sum = joules()) out["joules"] = *sum;
  if (!energy_source.empty()) out["energy_source"] = energy_source;
  if (price_per_core_hour) {
    out["price_per_core_hour"] = *price_per_core_hour;
    out["currency"] = currency;
    out["money"] = *money();
    out["rented_money"] = *rented_money();
  }
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

Result<Ledger> Ledger::FromJson(std::string_view text) {
  const json object = internal::ParseJson(text);
  if (!object.is_object() || !object.contains("core_seconds") || !object.contains("wall_seconds")) {
    return Error{Code::kCorrupt, "not a ledger: no object with core_seconds and wall_seconds"};
  }
  using internal::IntegerOr, internal::NumberOr;
  Ledger l;
  l.tokens = IntegerOr(object, "tokens", 0);
  l.train_flops = NumberOr(object, "train_flops", 0);
  l.core_seconds = NumberOr(object, "core_seconds", 0);
  l.wall_seconds = NumberOr(object, "wall_seconds", 0);
  l.peak_rss_bytes =
      static_cast<uint64_t>(std::max<int64_t>(0, IntegerOr(object, "peak_rss_bytes", 0)));
  l.sessions = IntegerOr(object, "sessions", 1);
  l.ranks = IntegerOr(object, "ranks", 1);
  l.energy_source = internal::TextOr(object, "energy_source", "");
  l.price_per_core_hour = internal::OptionalNumber(object, "price_per_core_hour");
  l.currency = internal::TextOr(object, "currency", "USD");
  for (const double value : {l.train_flops, l.core_seconds, l.wall_seconds}) {
    if (!(value >= 0)) {
      return Error{Code::kCorrupt, fmt::format("not a ledger: {} where a sum must be", value)};
    }
  }
  if (l.tokens < 0) return Error{Code::kCorrupt, fmt::format("not a ledger: {} tokens", l.tokens)};
  const auto machines = object.find("machines");
  if (machines == object.end() || !machines->is_array()) return l;
  for (const json& entry : *machines) {
    LedgerMachine m;
    m.host = internal::TextOr(entry, "host", "");
    m.cpu = internal::TextOr(entry, "cpu", "unknown");
    m.cores = IntegerOr(entry, "cores", 0);
    m.available_core_seconds = NumberOr(entry, "available_core_seconds", 0);
    m.joules = internal::OptionalNumber(entry, "joules");
    l.machines.push_back(std::move(m));
  }
  return l;
}

Result<Ledger> ReadLedger(const std::string& path) {
  auto ledger = Ledger::FromJson(TRY(ReadFile(path, kMaxLedgerBytes)));
  if (!ledger.ok()) return Error{ledger.error().code, path + ": " + ledger.error().message};
  return ledger;
}

Status WriteLedger(const Ledger& ledger, const std::string& path) {
  return WriteFileAtomic(path, ledger.ToJson());
}

Ledger MergeSessions(const Ledger& before, const Ledger& after) {
  Ledger sum = before;
  sum.tokens = AddClamped(sum.tokens, after.tokens);
  sum.train_flops += after.train_flops;
  sum.core_seconds += after.core_seconds;
  sum.wall_seconds += after.wall_seconds;
  sum.peak_rss_bytes = std::max(sum.peak_rss_bytes, after.peak_rss_bytes);
  sum.sessions = AddClamped(sum.sessions, after.sessions);
  sum.ranks = std::max(sum.ranks, after.ranks);
  for (const LedgerMachine& m : after.machines) {
    LedgerMachine* same = FindHost(sum.machines, m);
    if (same == nullptr) {
      sum.machines.push_back(m);
      continue;
    }
    same->cores = std::max(same->cores, m.cores);
    same->available_core_seconds += m.available_core_seconds;
    same->joules = OptionalSum(same->joules, m.joules);
  }
  sum.energy_source = MergeSources(before.energy_source, after.energy_source);
  if (after.price_per_core_hour) {
    sum.price_per_core_hour = after.price_per_core_hour;
    sum.currency = after.currency;
  }
  return sum;
}

Ledger MergeRanks(std::span<const Ledger> ranks) {
  Ledger sum;
  sum.sessions = sum.ranks = 0;
  for (const Ledger& rank : ranks) {
    sum.tokens = AddClamped(sum.tokens, rank.tokens);
    sum.train_flops += rank.train_flops;
    sum.core_seconds += rank.core_seconds;
    sum.wall_seconds = std::max(sum.wall_seconds, rank.wall_seconds);
    sum.peak_rss_bytes += rank.peak_rss_bytes;
    sum.sessions = std::max(sum.sessions, rank.sessions);
    sum.ranks = AddClamped(sum.ranks, rank.ranks);
    for (const LedgerMachine& m : rank.machines) {
      LedgerMachine* same = FindHost(sum.machines, m);
      if (same == nullptr) {
        sum.machines.push_back(m);
        continue;
      }
      same->cores = std::max(same->cores, m.cores);
      same->available_core_seconds =
          std::max(same->available_core_seconds, m.available_core_seconds);
      if (m.joules) same->joules = std::max(same->joules.value_or(0), *m.joules);
    }
    if (sum.energy_source.empty()) sum.energy_source = rank.energy_source;
    if (rank.price_per_core_hour) {
      sum.price_per_core_hour = rank.price_per_core_hour;
      sum.currency = rank.currency;
    }
  }
  return sum;
}

LedgerMeter::LedgerMeter(const MeterOptions& options)
    : core_seconds_before_(CoreSeconds()), start_(Clock::now()), last_poll_(start_) {
  ledger_.price_per_core_hour = options.price_per_core_hour;
  ledger_.machines.push_back({HostName(), CpuName(), UsableCores(), 0, std::nullopt});
  FindRapl(options.powercap);
  if (counters_.empty()) FindHwmon(options.hwmon);
  energy_known_ = !counters_.empty();
}

// Zones intel-rapl:N are packages (AMD's too); psys holds the packages and would count them twice.
// Of the zones inside a package only dram lies outside its figure.
void LedgerMeter::FindRapl(const std::string& folder) {
  for (const std::string& zone : Entries(folder)) {
    if (zone.rfind("intel-rapl:", 0) != 0) continue;
    const std::string path = folder + "/" + zone, name = FirstLine(path + "/name");
    const bool inner = std::count(zone.begin(), zone.end(), ':') > 1;
    if (inner ? name != "dram" : name.rfind("package", 0) != 0) continue;
    AddCounter(path + "/energy_uj", ReadCounter(path + "/max_energy_range_uj").value_or(0), name);
  }
}

// amd_energy: energyN_input in microjoules, labelled Esocket0 for sockets and Ecore000 for cores.
void LedgerMeter::FindHwmon(const std::string& folder) {
  for (const std::string& device : Entries(folder)) {
    const std::string path = folder + "/" + device;
    if (FirstLine(path + "/name") != "amd_energy") continue;
    for (const std::string& file : Entries(path)) {
      if (file.rfind("energy", 0) != 0 || file.find("_input") == std::string::npos) continue;
      const std::string label = FirstLine(path + "/" + file.substr(0, file.find('_')) + "_label");
      if (label.rfind("Esocket", 0) == 0) AddCounter(path + "/" + file, 0, label);
    }
  }
}

void LedgerMeter::AddCounter(const std::string& file, uint64_t range, const std::string& name) {
  const auto value = ReadCounter(file);
  if (!value) return;
  counters_.push_back({file, range, *value});
  ledger_.energy_source += (ledger_.energy_source.empty() ? "" : ", ") + name;
}

void LedgerMeter::PollEnergy() {
  for (Counter& counter : counters_) {
    const auto now = ReadCounter(counter.file);
    if (!now || (*now < counter.last && counter.range <= counter.last)) {
      energy_known_ = false;  // gone, or it went back without a stated wrap: no figure then
      return;
    }
    const uint64_t used =
        *now >= counter.last ? *now - counter.last : counter.range - counter.last + *now;
    microjoules_ += static_cast<double>(used);
    counter.last = *now;
  }
}

void LedgerMeter::Add(int64_t tokens, double train_flops) {
  ledger_.tokens = AddClamped(ledger_.tokens, tokens);
  ledger_.train_flops += train_flops;
  const auto now = Clock::now();
  if (!energy_known_ || Seconds(now - last_poll_) < kPollSeconds) return;
  last_poll_ = now;
  PollEnergy();
}

Ledger LedgerMeter::Read() {
  if (energy_known_) PollEnergy();
  ledger_.core_seconds = CoreSeconds() - core_seconds_before_;
  ledger_.wall_seconds = Seconds(Clock::now() - start_);
  ledger_.peak_rss_bytes = static_cast<uint64_t>(Usage().ru_maxrss) * 1024;
  LedgerMachine& machine = ledger_.machines.front();
  machine.available_core_seconds = static_cast<double>(machine.cores) * ledger_.wall_seconds;
  machine.joules.reset();
  if (energy_known_) machine.joules = 1e-6 * microjoules_;
  if (!energy_known_) ledger_.energy_source.clear();
  return ledger_;
}

}  // namespace hadal
