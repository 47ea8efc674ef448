// hadal inspect: what a model is, in exact numbers.
#include "cli/inspect.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/progress.h"
#include "base/terminal.h"
#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/session.h"
#include "cli/store.h"
#include "model/plan.h"

namespace hadal::cli {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct Flags {
  std::string model;
  int64_t context = 0, parallel = 1;
  std::string type = "BF16";
  bool plan = false, tensors = false, json = false;
};

bool HasWeights(const std::string& folder) {
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".safetensors") return true;
  }
  return false;
}

// 671026404352 as 671 026 404 352: these numbers are there to be compared by eye.
std::string Grouped(int64_t value) {
  std::string digits = std::to_string(value), out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-') out += ' ';
    out += digits[i];
  }
  return out;
}

std::map<std::string, int64_t> BytesByType(const WeightFile& file) {
  std::map<std::string, int64_t> bytes;
  for (const TensorInfo& t : file.tensors()) {
    bytes[std::string(Info(t.type).name)] += static_cast<int64_t>(t.bytes.size());
  }
  return bytes;
}

std::string ShapeText(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

// What this process holds by now: program, libraries, metadata and tokenizer, as running will.
int64_t ResidentBytes() {
  long pages = 0, resident = 0;
  FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  const bool read = std::fscanf(file, "%ld %ld", &pages, &resident) == 2;
  std::fclose(file);
  return read ? int64_t{resident} * sysconf(_SC_PAGESIZE) : 0;
}

struct FullPlan {
  MemoryPlan model;
  int64_t program = 0;
  int64_t total() const { return model.total + program; }
};

json PlanToJson(const FullPlan& full, const PlanOptions& options) {
  const MemoryPlan& plan = full.model;
  return {{"context", options.context},
          {"parallel", options.sequences},
          {"weights", plan.weights},
          {"kv_cache", plan.kv_cache},
          {"rope_tables", plan.rope_tables},
          {"workspace", plan.workspace},
          {"kernel_scratch", plan.kernel_scratch},
          {"program", full.program},
          {"total", full.total()},
          {"bytes_per_token", plan.bytes_per_token}};
}

void PrintPlan(const FullPlan& full, const PlanOptions& options) {
  const MemoryPlan& plan = full.model;
  fmt::print("\nmemory for {} sequence{} of {} tokens\n", options.sequences,
             options.sequences == 1 ? "" : "s", Grouped(options.context));
  const auto row = [](const char* what, int64_t bytes) {
    fmt::print("  {:<22}{:>20}  {:>8}\n", what, Grouped(bytes),
               HumanBytes(static_cast<double>(bytes)));
  };
  row("weights", plan.weights);
  row("KV cache", plan.kv_cache);
  row("rope tables", plan.rope_tables);
  row("workspace", plan.workspace);
  row("kernel scratch", plan.kernel_scratch);
  row("program, tokenizer", full.program);
  row("total", full.total());
}

void PrintSummary(const Inspection& i) {
  const ModelConfig& c = i.config;
  const ModelCounts& n = i.counts;
  const auto row = [](const char* what, const std::string& value) {
    fmt::print("{:<24}{}\n", what, value);
  };
  row("architecture", std::string(ArchName(c.arch)));
  row("layers", fmt::format("{}{}", c.layers,
                            c.mtp_layers > 0 ? fmt::format(" + {} MTP", c.mtp_layers) : ""));
  row("width", Grouped(c.width));
  row("heads",
      c.mla() ? fmt::format("{} (latent {}, rope {}, nope {}, v {})", c.heads, c.latent, c.rope_dim,
                            c.nope_dim, c.v_dim)
              : fmt::format("{} of {}, {} for keys and values", c.heads, c.head_dim, c.kv_heads));
  if (c.gate.experts > 0) {
    row("experts", fmt::format("{} of width {}, {} at once, {} shared", c.gate.experts,
                               c.expert_ffn, c.gate.top_k, c.shared_experts));
  }
  row("vocabulary", Grouped(c.vocab));
  row("context", Grouped(c.context));
  row("total parameters", Grouped(n.total_parameters));
  row("active parameters", Grouped(n.active_parameters));
  row("  without embedding", Grouped(n.active_without_embedding));
  if (n.mtp_parameters > 0) row("MTP parameters", Grouped(n.mtp_parameters));
  row("KV bytes per token", Grouped(2 * n.kv_elements_per_token));
  row("FLOPs per token", Grouped(n.flops_per_token));
  row("  per cached position", "+" + Grouped(n.attention_flops_per_token_per_position));
  for (const auto& [type, bytes] : i.bytes_by_type) {
    row(("bytes in " + type).c_str(),
        fmt::format("{} ({})", Grouped(bytes), HumanBytes(static_cast<double>(bytes))));
  }
}

Result<FullPlan> Plan(const Flags& flags, const Inspection& i, PlanOptions& options) {
  options.context = ChooseContext(flags.context, i.config);
  options.sequences = flags.parallel;
  if (i.file) {
    const auto tokenizer = LoadTokenizer(*i.file);  // stays while the memory is counted
    FullPlan plan{TRY(PlanMemory(i.config, *i.file, options)), 0};
    plan.program = ResidentBytes();
    return plan;
  }
  const auto type = DTypeFromName(flags.type);
  if (!type) return Error{Code::kInvalid, fmt::format("--type {} is unknown", Quoted(flags.type))};
  FullPlan plan{TRY(PlanMemory(i.config, *type, options)), 0};
  plan.program = ResidentBytes();
  return plan;
}

void PrintTensors(const WeightFile& file) {
  fmt::print("\n");
  for (const TensorInfo& t : file.tensors()) {
    fmt::print("{:<8}{:<24}{:>16}  {}\n", Info(t.type).name, ShapeText(t.shape), t.bytes.size(),
               Printable(t.name));
  }
}

Status Run(const Flags& flags) {
  const Inspection inspection = TRY(Inspect(TRY(FindModel(flags.model))));
  PlanOptions options;
  FullPlan plan;
  if (flags.plan) plan = TRY(Plan(flags, inspection, options));
  if (flags.tensors && !inspection.file) {
    return Error{Code::kInvalid, "--tensors: a config.json alone holds no tensors"};
  }
  if (flags.json) {
    json out = json::parse(InspectionToJson(inspection, flags.tensors));
    if (flags.plan) out["plan"] = PlanToJson(plan, options);
    fmt::print("{}\n", out.dump(2));
    return {};
  }
  PrintSummary(inspection);
  if (flags.plan) PrintPlan(plan, options);
  if (flags.tensors) PrintTensors(*inspection.file);
  return {};
}

}  // namespace

Result<Inspection> Inspect(const std::string& path) {
  Inspection result;
  std::error_code error;
  const bool folder = fs::is_directory(path, error);
  const bool config = fs::path(path).extension() == ".json" || (folder && !HasWeights(path));
  if (config) {
    const std::string file = folder ? path + "/config.json" : path;
    auto parsed = ModelConfig::FromJson(TRY(ReadFile(file, 16 << 20)));
    if (!parsed.ok()) return Error{parsed.error().code, file + ": " + parsed.error().message};
    result.config = *std::move(parsed);
  } else {
    result.file = std::make_unique<WeightFile>(TRY(WeightFile::Open(path)));
    result.config = TRY(ModelConfig::FromFile(*result.file));
    result.bytes_by_type = BytesByType(*result.file);
  }
  result.counts = Count(result.config);
  return result;
}

std::string InspectionToJson(const Inspection& i, bool tensors) {
  const ModelConfig& c = i.config;
  const ModelCounts& n = i.counts;
  json out = {{"architecture", ArchName(c.arch)},
              {"total_parameters", n.total_parameters},
              {"active_parameters", n.active_parameters},
              {"active_parameters_without_embedding", n.active_without_embedding},
              {"routing_biases", n.routing_biases},
              {"mtp_parameters", n.mtp_parameters},
              {"kv_elements_per_token", n.kv_elements_per_token},
              {"kv_bytes_per_token", 2 * n.kv_elements_per_token},
              {"flops_per_token", n.flops_per_token},
              {"attention_flops_per_token_per_position", n.attention_flops_per_token_per_position},
              {"attention_parameters_per_layer", n.attention_per_layer},
              {"expert_parameters", n.expert},
              {"dense_layer_parameters", n.dense_ffn_layer},
              {"moe_layer_parameters", n.moe_layer},
              {"embedding_parameters", n.embedding},
              {"bytes_by_type", i.bytes_by_type},
              {"context", c.context},
              {"layers", c.layers},
              {"mtp_layers", c.mtp_layers},
              {"width", c.width},
              {"vocabulary", c.vocab},
              {"heads", c.heads},
              {"kv_heads", c.kv_heads},
              {"experts", c.gate.experts},
              {"active_experts", c.gate.top_k},
              {"shared_experts", c.shared_experts},
              {"stored_type", c.stored_type}};
  if (tensors && i.file) {
    json list = json::array();
    for (const TensorInfo& t : i.file->tensors()) {
      list.push_back({{"name", t.name},
                      {"type", Info(t.type).name},
                      {"shape", t.shape},
                      {"bytes", t.bytes.size()}});
    }
    out["tensors"] = std::move(list);
  }
  return out.dump(2, ' ', false, json::error_handler_t::replace);
}

void AddInspect(Verb& app, Status& status) {
  auto flags = std::make_shared<Flags>();
  Verb* verb = app.add_subcommand("inspect", "Show sizes, types, FLOPs and memory of a model");
  verb->add_option("model,-m,--model", flags->model,
                   "GGUF file, Hugging Face folder, config.json, or name of a pulled model");
  verb->add_flag("--tensors", flags->tensors, "List every tensor");
  verb->add_flag("--plan", flags->plan, "The memory that running it takes");
  verb->add_option("-c,--context", flags->context,
                   "With --plan: tokens a sequence holds; 0: the model's, at most 8192")
      ->check(Range(int64_t{0}, int64_t{1} << 24));
  verb->add_option("--parallel", flags->parallel, "With --plan: sequences at once")
      ->check(Range(1, 4096))
      ->capture_default_str();
  verb->add_option("--type", flags->type, "With --plan of a config.json: the weights' type")
      ->capture_default_str();
  AddJson(*verb, flags->json);
  verb->footer(
      "Examples:\n"
      "  hadal inspect model.gguf\n"
      "  hadal inspect DeepSeek-V3/config.json --json\n"
      "  hadal inspect SmolLM2-135M-Instruct --plan --context 4096\n");
  verb->callback([flags, &status] { status = Run(*flags); });
}

}  // namespace hadal::cli
