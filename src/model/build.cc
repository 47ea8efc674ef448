// Puts a model together from a source of parameters: packs matrices, splits kv_b by head.
#include <cmath>
#include <cstring>
#include <string>
#include <unordered_map>

#include "model/internal_model.h"
#include "tensor/half.h"
#include "tensor/quant.h"

namespace hadal::internal {

DType AbsorbedType(DType type, int64_t cols) {
  if (type == DType::kF16 || type == DType::kBF16) return type;
  if (type == DType::kF32 || type == DType::kF8E4M3) return DType::kF32;
  return cols % Info(DType::kQ8_0).block == 0 ? DType::kQ8_0 : DType::kF16;
}

namespace {

class Builder {
 public:
  Builder(const Exec* exec, const ModelConfig& config, ParamSource& source, Filled filled)
      : exec_(exec),
        c_(config),
        source_(source),
        packs_(exec != nullptr && filled == Filled::kAll) {
    int32_t index = 0;
    for (ParamSpec& spec : ListParams(config)) {
      std::string name = spec.name;
      specs_.emplace(std::move(name), Listed{std::move(spec), index++});
    }
  }

  Result<ModelWeights> Build() {
    ModelWeights& w = weights_;
    reads_ = 0;  // an embedding row is nothing beside the rest
    prefix_.clear();
    w.embed = TRY(Matrix("model.embed_tokens.weight"));
    for (int64_t layer = 0; layer < c_.layers; ++layer) {
      w.layers.emplace_back();
      TRY(Layer(layer, w.layers.back()));
    }
    prefix_.clear();
    reads_ = 1;
    w.final_norm = TRY(Values("model.norm.weight"));
    if (!c_.tied_embeddings) {
      w.head = TRY(Matrix("lm_head.weight"));
    } else {
      w.bytes_per_token += embed_bytes_;
    }
    if (c_.mtp_layers > 0) {
      w.mtp = std::make_unique<MtpWeights>();
      TRY(Mtp(*w.mtp));
    }
    return std::move(weights_);
  }

 private:
  struct Listed {
    ParamSpec spec;
    int32_t index;
  };
  const ParamSpec& Spec(const std::string& name) const { return specs_.at(prefix_ + name).spec; }
  int32_t Index(const std::string& name) const { return specs_.at(prefix_ + name).index; }

  Error Named(const ParamSpec& spec, Error error) const {
    error.message = "tensor " + spec.name + ": " + error.message;
    return error;
  }

  void Account(int64_t bytes) {
    weights_.bytes += bytes;
    if (in_main_) {
      weights_.bytes_per_token += static_cast<int64_t>(reads_ * static_cast<double>(bytes));
    }
  }

  Result<PackedMatrix> Pack(const ParamSpec& spec, const StoredMatrix& m) {
    const int64_t bytes = PackedMatrix::PackedBytes(m.type, m.rows, m.cols);
    Account(bytes);
    if (spec.name == "model.embed_tokens.weight") embed_bytes_ = bytes;
    if (!packs_) return PackedMatrix();
    Result<PackedMatrix> packed =
        PackedMatrix::Pack(*exec_, m.type, m.data, m.rows, m.cols, m.fp8_scale, &weights_.tiles);
    if (!packed.ok()) return Named(spec, std::move(packed).error());
    return packed;
  }

  Result<Weight> Matrix(const std::string& name) {
    const ParamSpec& spec = Spec(name);
    const StoredMatrix m = TRY(source_.Get(spec));
    PackedMatrix packed = TRY(Pack(spec, m));
    TRY(source_.Done(spec));
    return Weight(std::move(packed), {Index(name), 0, m.rows});
  }

  Result<Vector> Values(const std::string& name) {
    const ParamSpec& spec = Spec(name);
    const StoredMatrix m = TRY(source_.Get(spec));
    const int64_t n = m.rows * m.cols;
    Account(n * 4);
    Vector out(static_cast<size_t>(n));
    out.param = Index(name);
    if (exec_ != nullptr) {
      TRY(Widen(m, out.data()));
      for (const float v : out) {
        if (!std::isfinite(v)) {
          return Named(spec, {Code::kNumeric, "holds NaN or Inf; is the file damaged?"});
        }
      }
    }
    TRY(source_.Done(spec));
    return out;
  }

  // bias of `name` without its ".weight" when the config has it.
  Result<Vector> Bias(const std::string& stem, bool present) {
    if (!present) return Vector();
    return Values(stem + ".bias");
  }

  Status Layer(int64_t index, LayerWeights& w) {
    prefix_ = "model.layers." + std::to_string(index) + ".";
    reads_ = 1;
    w.attention_norm = TRY(Values("input_layernorm.weight"));
    if (c_.mla()) {
      TRY(LatentAttention(w));
    } else {
      TRY(GroupedAttention(w));
    }
    w.o = TRY(Matrix("self_attn.o_proj.weight"));
    w.o_bias = TRY(Bias("self_attn.o_proj", c_.output_bias));
    w.ffn_norm = TRY(Values("post_attention_layernorm.weight"));
    w.moe = c_.moe(index);
    if (w.moe) return MixtureOfExperts(w);
    return SwiGlu("mlp.", c_.mlp_bias, w.ffn);
  }

  Status GroupedAttention(LayerWeights& w) {
    w.q = TRY(Matrix("self_attn.q_proj.weight"));
    w.k = TRY(Matrix("self_attn.k_proj.weight"));
    w.v = TRY(Matrix("self_attn.v_proj.weight"));
    w.q_bias = TRY(Bias("self_attn.q_proj", c_.qkv_bias));
    w.k_bias = TRY(Bias("self_attn.k_proj", c_.qkv_bias));
    w.v_bias = TRY(Bias("self_attn.v_proj", c_.qkv_bias));
    if (c_.qk_norm) {
      w.q_norm = TRY(Values("self_attn.q_norm.weight"));
      w.k_norm = TRY(Values("self_attn.k_norm.weight"));
    }
    return {};
  }

  Status LatentAttention(LayerWeights& w) {
    if (c_.q_latent > 0) {
      w.q_a = TRY(Matrix("self_attn.q_a_proj.weight"));
      w.q_a_bias = TRY(Bias("self_attn.q_a_proj", c_.qkv_bias));
      w.q_a_norm = TRY(Values("self_attn.q_a_layernorm.weight"));
      w.q_b = TRY(Matrix("self_attn.q_b_proj.weight"));
    } else {
      w.q = TRY(Matrix("self_attn.q_proj.weight"));
    }
    w.kv_a = TRY(Matrix("self_attn.kv_a_proj_with_mqa.weight"));
    w.kv_a_bias = TRY(Bias("self_attn.kv_a_proj_with_mqa", c_.qkv_bias));
    w.kv_a_norm = TRY(Values("self_attn.kv_a_layernorm.weight"));
    const ParamSpec& kv_b = Spec("self_attn.kv_b_proj.weight");
    w.kv_b = {Index("self_attn.kv_b_proj.weight"), 0, c_.heads * (c_.nope_dim + c_.v_dim)};
    ParamSpec k_b = kv_b;
    k_b.gguf_name = kv_b.gguf_name.substr(0, kv_b.gguf_name.find("kv_b")) + "k_b.weight";
    k_b.name = prefix_ + "self_attn.k_b_proj.weight";
    k_b.shape = {c_.heads, c_.latent, c_.nope_dim};
    if (!source_.Has(kv_b) && source_.Has(k_b)) return SplitLatent(k_b, w);
    return JointLatent(kv_b, w);
  }

  // One tensor [H * (nope + v), latent]: its key rows are also wanted transposed.
  Status JointLatent(const ParamSpec& spec, LayerWeights& w) {
    StoredMatrix all = TRY(source_.Get(spec));
    std::vector<float> widened;
    if (all.type == DType::kF8E4M3 && (c_.nope_dim % 128 != 0 || c_.v_dim % 128 != 0)) {
      // Heads do not fall on the 128-row grid of scales.
      if (packs_) {
        widened.resize(static_cast<size_t>(all.rows * all.cols));
        TRY(Widen(all, widened.data()));
      }
      all = {DType::kF32, reinterpret_cast<const std::byte*>(widened.data()), all.rows, all.cols};
    }
    for (int64_t h = 0; h < c_.heads; ++h) {
      const int64_t row = h * (c_.nope_dim + c_.v_dim);
      const StoredMatrix key = Rows(all, row, c_.nope_dim);
      reads_ = 0;  // expanded form only
      w.k_up.push_back(TRY(Pack(spec, key)));
      reads_ = 1;
      w.v_up.push_back(TRY(Pack(spec, Rows(all, row + c_.nope_dim, c_.v_dim))));
      w.q_absorb.push_back(TRY(PackTransposed(spec, key)));
    }
    return source_.Done(spec);
  }

  // attn_k_b [H, latent, nope], transposed already, and attn_v_b [H, v, latent].
  Status SplitLatent(const ParamSpec& k_b, LayerWeights& w) {
    const StoredMatrix keys = TRY(source_.Get(k_b));
    if (keys.type == DType::kF8E4M3) {
      return Named(k_b, {Code::kUnsupported, "type F8_E4M3 is not read for this tensor"});
    }
    for (int64_t h = 0; h < c_.heads; ++h) {
      const StoredMatrix key = Rows(keys, h * c_.latent, c_.latent);
      reads_ = 1;
      w.q_absorb.push_back(TRY(Pack(k_b, key)));
      reads_ = 0;
      w.k_up.push_back(TRY(PackTransposed(k_b, key)));
    }
    reads_ = 1;
    TRY(source_.Done(k_b));
    ParamSpec v_b = k_b;
    v_b.gguf_name.replace(v_b.gguf_name.find("k_b"), 3, "v_b");
    v_b.name = prefix_ + "self_attn.v_b_proj.weight";
    v_b.shape = {c_.heads, c_.v_dim, c_.latent};
    const StoredMatrix values = TRY(source_.Get(v_b));
    for (int64_t h = 0; h < c_.heads; ++h) {
      w.v_up.push_back(TRY(Pack(v_b, Rows(values, h * c_.v_dim, c_.v_dim))));
    }
    return source_.Done(v_b);
  }

  static StoredMatrix Rows(const StoredMatrix& m, int64_t first, int64_t count) {
    StoredMatrix part = m;
    part.rows = count;
    if (m.data != nullptr) part.data = m.data + first * RowBytes(m.type, m.cols);
    if (m.fp8_scale != nullptr) part.fp8_scale += first / 128 * ((m.cols + 127) / 128);
    return part;
  }

  Result<PackedMatrix> PackTransposed(const ParamSpec& spec, const StoredMatrix& m) {
    const DType type = AbsorbedType(m.type, m.rows);
    const int64_t before = weights_.bytes;
    std::vector<float> from, to;
    std::vector<std::byte> narrow;
    const std::byte* data = nullptr;
    if (packs_) {
      const auto n = static_cast<size_t>(m.rows * m.cols);
      from.resize(n);
      to.resize(n);
      TRY(Widen(m, from.data()));
      for (int64_t r = 0; r < m.rows; ++r) {
        for (int64_t k = 0; k < m.cols; ++k) {
          to[static_cast<size_t>(k * m.rows + r)] = from[static_cast<size_t>(r * m.cols + k)];
        }
      }
      narrow.resize(static_cast<size_t>(RowBytes(type, m.rows) * m.cols));
      Quantize(type, to.data(), narrow.data(), m.rows * m.cols);
      data = narrow.data();
    }
    PackedMatrix packed = TRY(Pack(spec, {type, data, m.cols, m.rows}));
    weights_.derived_bytes += weights_.bytes - before;
    return packed;
  }

  Status SwiGlu(const std::string& stem, bool bias, SwiGluWeights& w) {
    w.gate = TRY(Matrix(stem + "gate_proj.weight"));
    w.up = TRY(Matrix(stem + "up_proj.weight"));
    w.down = TRY(Matrix(stem + "down_proj.weight"));
    w.gate_bias = TRY(Bias(stem + "gate_proj", bias));
    w.up_bias = TRY(Bias(stem + "up_proj", bias));
    w.down_bias = TRY(Bias(stem + "down_proj", bias));
    return {};
  }

  Status MixtureOfExperts(LayerWeights& w) {
    const bool mixtral = c_.arch == Arch::kMixtral;
    const std::string block = mixtral ? "block_sparse_moe." : "mlp.";
    w.router = TRY(Matrix(block + "gate.weight"));
    w.router.from.high = true;
    if (c_.gate_bias) w.router_bias = TRY(Values(block + "gate.e_score_correction_bias"));
    const auto experts = [&](const std::string& kind, std::vector<PackedMatrix>& out,
                             int32_t& first) -> Status {
      out.reserve(static_cast<size_t>(c_.gate.experts));
      for (int64_t e = 0; e < c_.gate.experts; ++e) {
        std::string name = block;
        name.append("experts.").append(std::to_string(e)).append(".");
        name.append(kind).append(".weight");
        if (e == 0) first = Index(name);
        if (source_.Kept(Spec(name))) {
          out.push_back(TRY(Matrix(name)));
        } else {
          out.emplace_back();
        }
      }
      return {};
    };
    reads_ = static_cast<double>(c_.gate.top_k) / static_cast<double>(c_.gate.experts);
    TRY(experts(mixtral ? "w1" : "gate_proj", w.expert_gate, w.gate_param));
    TRY(experts(mixtral ? "w3" : "up_proj", w.expert_up, w.up_param));
    TRY(experts(mixtral ? "w2" : "down_proj", w.expert_down, w.down_param));
    reads_ = 1;
    if (c_.shared_experts == 0) return {};
    return SwiGlu("mlp.shared_experts.", false, w.ffn);
  }

  Status Mtp(MtpWeights& w) {
    in_main_ = false;
    TRY(Layer(c_.layers, w.layer));
    w.embed_norm = TRY(Values("enorm.weight"));
    w.hidden_norm = TRY(Values("hnorm.weight"));
    w.project = TRY(Matrix("eh_proj.weight"));
    w.head_norm = TRY(Values("shared_head.norm.weight"));
    return {};
  }

  const Exec* exec_;
  const ModelConfig& c_;
  ParamSource& source_;
  const bool packs_;
  std::unordered_map<std::string, Listed> specs_;
  ModelWeights weights_;
  std::string prefix_;
  bool in_main_ = true;
  double reads_ = 1;  // share of the bytes being packed that a decode step reads
  int64_t embed_bytes_ = 0;
};

}  // namespace

Result<ModelWeights> BuildWeights(const Exec* exec, const ModelConfig& config, ParamSource& source,
                                  Filled filled) {
  return Builder(exec, config, source, filled).Build();
}

}  // namespace hadal::internal
