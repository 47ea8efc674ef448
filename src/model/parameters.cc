#include "model/parameters.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/rng.h"
#include "model/internal_source.h"
#include "tensor/quant.h"

namespace hadal {
namespace {

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

bool WritesResidual(std::string_view name) {
  return name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") ||
         name.ends_with("w2.weight");
}

}  // namespace

Parameters::Parameters(const ModelConfig& config, ExpertShare share) : share_(share) {
  for (ParamSpec& spec : ListParams(config)) {
    Entry e;
    e.cols = spec.shape.back();
    e.rows = 1;
    for (size_t i = 0; i + 1 < spec.shape.size(); ++i) e.rows *= spec.shape[i];
    e.trained = !spec.name.ends_with("e_score_correction_bias");
    e.spec = std::move(spec);
    count_ += e.size();
    entries_.push_back(std::move(e));
  }
  const auto place = [&](int64_t expert) {
    for (Entry& e : entries_) {
      if (e.spec.expert != expert) continue;
      e.offset = size_;
      size_ += RoundUp(e.size(), kParameterBlock);
    }
  };
  place(-1);
  common_size_ = size_;
  const int64_t first = share.First(config.gate.experts), count = share.Size(config.gate.experts);
  for (int64_t expert = first; expert < first + count; ++expert) place(expert);
  for (Entry& e : entries_) {
    e.kept = e.spec.expert < 0 || (e.spec.expert >= first && e.spec.expert < first + count);
  }
  values_ = Buffer(static_cast<size_t>(size_) * sizeof(float));
  gradients_ =
      Buffer(static_cast<size_t>(common_size_ + share.ranks * expert_size()) * sizeof(float));
}

View2<float> Parameters::gradient(int64_t index, int64_t source) const {
  CHECK(source >= 0 && source < share_.ranks);
  View2<float> g = gradient(index);
  g.data += source * expert_size();
  return g;
}

int64_t Parameters::Find(std::string_view name) const {
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].spec.name == name) return static_cast<int64_t>(i);
  }
  return -1;
}

View2<float> Parameters::At(const Buffer& b, int64_t index) const {
  CHECK(index >= 0 && index < static_cast<int64_t>(entries_.size()));
  CHECK(entries_[static_cast<size_t>(index)].kept);
  const Entry& e = entries_[static_cast<size_t>(index)];
  return {b.as<float>() + e.offset, e.rows, e.cols};
}

void Parameters::Initialise(const Exec& exec, uint64_t seed, float std) {
  int64_t layers = 0;
  for (const Entry& e : entries_) layers += e.spec.name.ends_with("input_layernorm.weight") ? 1 : 0;
  exec.pool().For(static_cast<int64_t>(entries_.size()), [&](int64_t i, int) {
    const Entry& e = entries_[static_cast<size_t>(i)];
    if (!e.kept) return;
    const View2<float> v = value(i);
    if (!e.matrix()) {
      const bool norm = e.spec.name.find("norm") != std::string::npos;
      std::fill_n(v.data, e.size(), norm ? 1.0f : 0.0f);
      return;
    }
    double scale = std;
    if (WritesResidual(e.spec.name)) scale /= std::sqrt(2.0 * static_cast<double>(layers));
    Rng rng(seed, static_cast<uint64_t>(i));
    for (int64_t k = 0; k < e.size(); ++k) {
      v.data[k] = static_cast<float>(scale * rng.NextNormal());
    }
  });
}

Status Parameters::Read(const WeightFile& file, const ModelConfig& config) {
  const auto source = internal::NewFileSource(file, config, {}, /*with_data=*/true);
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Entry& e = entries_[i];
    if (!e.kept) continue;
    const internal::StoredMatrix m = TRY(source->Get(e.spec));
    TRY(internal::Widen(m, value(static_cast<int64_t>(i)).data));
    TRY(source->Done(e.spec));
  }
  return file.CheckIntact();
}

}  // namespace hadal
