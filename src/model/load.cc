#include <algorithm>
#include <string>
#include <utility>

#include "model/internal_config.h"
#include "model/internal_model.h"

namespace hadal {

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;

const ModelConfig& Model::config() const { return impl_->config; }
const Exec& Model::exec() const { return *impl_->exec; }
int64_t Model::weight_bytes() const { return impl_->weights.bytes; }
int64_t Model::bytes_per_token() const { return impl_->weights.bytes_per_token; }

Result<std::unique_ptr<Model>> Model::Load(const Exec& exec, const WeightFile& file,
                                           const LoadOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->exec = &exec;
  impl->config = TRY(ModelConfig::FromFile(file));
  if (options.max_layers >= 0 && options.max_layers < impl->config.layers) {
    impl->config.layers = std::max<int64_t>(1, options.max_layers);
    impl->config.mtp_layers = 0;
  }
  // A second MTP depth would be loaded for nothing: drafting uses the first.
  impl->config.mtp_layers = std::min<int64_t>(impl->config.mtp_layers, 1);
  const auto source = internal::NewFileSource(file, impl->config, options, /*with_data=*/true);
  Result<internal::ModelWeights> weights = internal::BuildWeights(&exec, impl->config, *source);
  // A file cut off while it was read looks like zeros or damage: say what really happened.
  TRY(file.CheckIntact());
  if (!weights.ok()) return std::move(weights).error();
  impl->weights = std::move(weights).value();
  return std::unique_ptr<Model>(new Model(std::move(impl)));
}

Result<std::unique_ptr<Model>> Model::Random(const Exec& exec, const ModelConfig& config,
                                             DType type, uint64_t seed) {
  TRY(internal::ValidateConfig(config));
  auto impl = std::make_unique<Impl>();
  impl->exec = &exec;
  impl->config = config;
  impl->config.mtp_layers = std::min<int64_t>(config.mtp_layers, 1);
  const auto source = internal::NewRandomSource(&exec, type, seed);
  impl->weights = TRY(internal::BuildWeights(&exec, impl->config, *source));
  return std::unique_ptr<Model>(new Model(std::move(impl)));
}

std::unique_ptr<Model> Model::Empty(const Exec& exec, const ModelConfig& config) {
  auto impl = std::make_unique<Impl>();
  impl->exec = &exec;
  impl->config = config;
  return std::unique_ptr<Model>(new Model(std::move(impl)));
}

}  // namespace hadal
