#include "cli/conversion.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "cli/gguf_metadata.h"
#include "cli/param_reader.h"
#include "formats/writer.h"
#include "infer/bundle.h"
#include "tensor/quant.h"
#include "tokenizer/tokenizer_file.h"

namespace hadal::cli {
namespace {

using nlohmann::json;

json ParseOrEmpty(const Result<std::string>& text) {
  if (!text.ok()) return json::object();
  json j = json::parse(*text, nullptr, false);
  return j.is_object() ? j : json::object();
}

// chat_template.jinja, else the template (or the one named default) of tokenizer_config.json.
std::string FolderTemplate(const WeightFile& file, const json& tokenizer_config) {
  if (auto text = file.ReadText("chat_template.jinja"); text.ok()) return *std::move(text);
  const json found = tokenizer_config.value("chat_template", json());
  if (found.is_string()) return found;
  std::string chosen;
  for (const json& entry : found.is_array() ? found : json::array()) {
    if (!entry.is_object() || !entry.value("template", json()).is_string()) continue;
    if (chosen.empty() || entry.value("name", json()) == "default") chosen = entry["template"];
  }
  return chosen;
}

void AddSamplingDefaults(const json& generation, Metadata& metadata) {
  const std::pair<const char*, const char*> numbers[] = {{"temperature", "general.sampling.temp"},
                                                         {"top_p", "general.sampling.top_p"}};
  for (const auto& [from, to] : numbers) {
    const json value = generation.value(from, json());
    if (value.is_number()) {
      metadata[to] = {.gguf_type = 6, .array_type = 0, .value = value.get<double>()};
    }
  }
  const json k = generation.value("top_k", json());
  if (k.is_number_unsigned()) metadata["general.sampling.top_k"] = MetaU32(k.get<uint64_t>());
}

// One tensor of a GGUF and the parameters that make it: one, or the experts in order.
struct Stack {
  TensorSpec spec;
  std::vector<ParamSpec> params;
};

std::vector<Stack> StackParams(const ModelConfig& config, DType type) {
  std::vector<Stack> stacks;
  std::map<std::string, size_t> index;
  for (ParamSpec& p : ListParams(config)) {
    const auto [it, fresh] = index.emplace(p.gguf_name, stacks.size());
    if (fresh) stacks.push_back({{p.gguf_name, DType::kF32, p.shape}, {}});
    stacks[it->second].params.push_back(std::move(p));
  }
  for (Stack& s : stacks) {
    if (s.params[0].expert >= 0) {
      s.spec.shape.insert(s.spec.shape.begin(), static_cast<int64_t>(s.params.size()));
    }
    s.spec.type = ChooseType(type, s.spec.name, s.spec.shape);
  }
  return stacks;
}

void Count(DType wanted, const TensorSpec& spec, ConversionReport& report) {
  ++report.tensors_by_type[std::string(Info(spec.type).name)];
  const bool matrix = spec.shape.size() > 1 && spec.type != DType::kF32;
  const bool ends = spec.name == "token_embd.weight" || spec.name == "output.weight";
  if (matrix && !ends && spec.type != wanted) ++report.fallbacks;
}

Status Tick(const ConversionOptions& options, size_t done, size_t total) {
  if (!options.progress ||
      options.progress(static_cast<int64_t>(done), static_cast<int64_t>(total))) {
    return {};
  }
  return Error{Code::kCancelled, "interrupted"};
}

// Llama 3's parameters behind the divisors that GGUF stores; every release has these.
Status RecoverLlama3(ModelConfig& c) {
  RopeScaling& r = c.rope_scaling;
  if (r.frequency_factors.empty()) return {};
  const auto factors = std::move(r.frequency_factors);
  r = {};
  r.kind = RopeScaling::Kind::kLlama3;
  r.original_context = 8192;
  r.factor = static_cast<double>(std::round(factors.back()));
  const auto again = RopeFactors(c);
  for (size_t i = 0; i < factors.size(); ++i) {
    if (std::abs(again[i] - factors[i]) > 1e-3f * factors[i]) {
      return Error{Code::kUnsupported, fmt::format("rope_freqs.weight[{}] is {}, which no Llama 3 "
                                                   "scaling gives: config.json cannot state it",
                                                   i, factors[i])};
    }
  }
  return {};
}

json TokenizerConfig(const TokenizerSpec& spec, const std::string& chat_template) {
  const auto token = [&](std::optional<int32_t> id) {
    return id ? json(spec.tokens[static_cast<size_t>(*id)]) : json();
  };
  json j = {{"tokenizer_class", "PreTrainedTokenizerFast"},
            {"add_bos_token", spec.add_bos},
            {"add_eos_token", spec.add_eos},
            {"clean_up_tokenization_spaces", false}};
  if (spec.bos) j["bos_token"] = token(spec.bos);
  if (spec.eos) j["eos_token"] = token(spec.eos);
  if (spec.pad) j["pad_token"] = token(spec.pad);
  if (!chat_template.empty()) j["chat_template"] = chat_template;
  return j;
}

json GenerationConfig(const WeightFile& file, const ModelConfig& config) {
  json j = {{"_from_model_config", true}};
  if (config.bos_id) j["bos_token_id"] = *config.bos_id;
  if (!config.eos_ids.empty()) j["eos_token_id"] = config.eos_ids;
  const std::pair<const char*, const char*> numbers[] = {{"general.sampling.temp", "temperature"},
                                                         {"general.sampling.top_p", "top_p"},
                                                         {"general.sampling.top_k", "top_k"}};
  for (const auto& [from, to] : numbers) {
    const auto value = MetaFloat(file.metadata(), from);
    if (value.ok() && *value) j[to] = **value;
  }
  return j;
}

}  // namespace

Result<std::vector<FolderText>> TokenizerTexts(const WeightFile& file, const ModelConfig& config) {
  const TokenizerSpec spec = TRY(TokenizerSpecFromGguf(file.metadata()));
  const std::string chat_template =
      TRY(MetaString(file.metadata(), "tokenizer.chat_template")).value_or("");
  const auto dump = [](const json& j) {
    return j.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
  };
  return std::vector<FolderText>{
      {"tokenizer.json", TRY(ToTokenizerJson(spec))},
      {"tokenizer_config.json", dump(TokenizerConfig(spec, chat_template))},
      {"generation_config.json", dump(GenerationConfig(file, config))}};
}

Result<ConversionReport> FolderToGguf(ThreadPool& pool, const WeightFile& file,
                                      const std::string& output, const ConversionOptions& options) {
  ConversionReport report;
  ModelConfig config = TRY(ModelConfig::FromFile(file));
  report.mtp_dropped = config.mtp_layers > 0;
  config.mtp_layers = 0;
  const Tokenizer tokenizer = TRY(LoadTokenizer(file));
  Metadata metadata = ArchMetadata(config, options.name, options.type);
  const json generation = ParseOrEmpty(file.ReadText("generation_config.json"));
  std::vector<int32_t> eos = config.eos_ids;
  const json stated = generation.value("eos_token_id", json());
  for (const json& id : stated.is_array() ? stated : json::array({stated})) {
    if (id.is_number_unsigned() && id < config.vocab) eos.push_back(id.get<int32_t>());
  }
  AddTokenizer(tokenizer.ToSpec(), config.vocab, eos, metadata);
  AddSamplingDefaults(generation, metadata);
  const std::string chat_template =
      FolderTemplate(file, ParseOrEmpty(file.ReadText("tokenizer_config.json")));
  if (!chat_template.empty()) metadata["tokenizer.chat_template"] = MetaText(chat_template);

  std::vector<Stack> stacks = StackParams(config, options.type);
  std::vector<TensorSpec> specs;
  for (const Stack& s : stacks) specs.push_back(s.spec);
  const std::vector<float> factors = RopeFactors(config);
  if (!factors.empty()) {
    specs.push_back({"rope_freqs.weight", DType::kF32, {static_cast<int64_t>(factors.size())}});
  }
  for (const TensorSpec& s : specs) Count(options.type, s, report);
  TRY(WriteGguf(output, metadata, specs, [&](size_t i, std::span<std::byte> out) -> Status {
    TRY(Tick(options, i, specs.size()));
    if (i == stacks.size()) {
      std::memcpy(out.data(), factors.data(), out.size());
      return {};
    }
    const size_t part = out.size() / stacks[i].params.size();
    for (size_t e = 0; e < stacks[i].params.size(); ++e) {
      const ParamSpec& p = stacks[i].params[e];
      auto values = TRY(ReadParam(file, config, p));
      const int64_t cols = p.shape.back(), rows = static_cast<int64_t>(values.size()) / cols;
      if (const int64_t heads = PairedHeads(config, p); heads > 0) {
        HalvesToPairs(values, heads, p.shape.size() == 1 ? cols : rows);
      }
      EncodeRows(pool, specs[i].type, values.data(), out.data() + e * part, rows, cols);
      if (const TensorInfo* t = file.Find(p.name)) file.Drop(*t);
    }
    return {};
  }));
  TRY(file.CheckIntact());
  return report;
}

Result<ConversionReport> GgufToFolder(const WeightFile& file, const std::string& output,
                                      const ConversionOptions& options) {
  if (options.type != DType::kBF16 && options.type != DType::kF32) {
    return Error{Code::kInvalid, "a Hugging Face folder is written in BF16 or F32: choose --type"};
  }
  ConversionReport report;
  ModelConfig config = TRY(ModelConfig::FromFile(file));
  report.mtp_dropped = config.mtp_layers > 0;
  config.mtp_layers = 0;
  TRY(RecoverLlama3(config));
  auto texts = TRY(TokenizerTexts(file, config));
  texts.push_back(
      {"config.json", config.ToJson(options.type == DType::kBF16 ? "bfloat16" : "float32")});
  const auto params = ListParams(config);
  std::vector<TensorSpec> specs;
  for (const ParamSpec& p : params) {
    const bool bias = p.name.ends_with("e_score_correction_bias");
    specs.push_back({p.name, bias ? DType::kF32 : options.type, p.shape});
    ++report.tensors_by_type[std::string(Info(specs.back().type).name)];
  }
  TRY(WriteHuggingFaceFolder(
      output, specs,
      [&](size_t i, std::span<std::byte> out) -> Status {
        TRY(Tick(options, i, specs.size()));
        const auto values = TRY(ReadParam(file, config, params[i]));
        Quantize(specs[i].type, values.data(), out.data(), static_cast<int64_t>(values.size()));
        return {};
      },
      texts));
  TRY(file.CheckIntact());
  return report;
}

Result<ConversionReport> RequantizeGguf(ThreadPool& pool, const WeightFile& file,
                                        const std::string& output,
                                        const ConversionOptions& options) {
  ConversionReport report;
  Metadata metadata = file.metadata();
  metadata["general.file_type"] = MetaU32(GgufFileType(options.type));
  metadata["general.quantization_version"] = MetaU32(2);
  std::erase_if(metadata, [](const auto& entry) { return entry.first.starts_with("split."); });
  std::vector<TensorSpec> specs;
  for (const TensorInfo& t : file.tensors()) {
    const bool weights = IsFloatLike(t.type) && t.name.ends_with(".weight");
    specs.push_back(
        {t.name, weights ? ChooseType(options.type, t.name, t.shape) : t.type, t.shape});
    Count(options.type, specs.back(), report);
  }
  std::vector<float> values;
  TRY(WriteGguf(output, metadata, specs, [&](size_t i, std::span<std::byte> out) -> Status {
    TRY(Tick(options, i, specs.size()));
    const TensorInfo& t = file.tensors()[i];
    if (t.type == specs[i].type) {
      std::memcpy(out.data(), t.bytes.data(), out.size());
    } else {
      // A slice of rows at a time: the largest tensors have billions of values.
      const int64_t cols = t.cols(), step = std::max<int64_t>(1, (int64_t{1} << 24) / cols);
      for (int64_t r = 0; r < t.rows(); r += step) {
        const int64_t rows = std::min(step, t.rows() - r);
        values.resize(static_cast<size_t>(rows * cols));
        pool.For(rows, [&](int64_t row, int) {
          Dequantize(t.type, t.bytes.data() + (r + row) * RowBytes(t.type, cols),
                     values.data() + row * cols, cols);
        });
        EncodeRows(pool, specs[i].type, values.data(),
                   out.data() + r * RowBytes(specs[i].type, cols), rows, cols);
      }
    }
    file.Drop(t);
    return {};
  }));
  TRY(file.CheckIntact());
  return report;
}

}  // namespace hadal::cli
