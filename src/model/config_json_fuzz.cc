// Any bytes as config.json: an error or a config whose every derived figure can be computed.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = hadal::ModelConfig::FromJson(text);
  if (!config.ok()) {
    CHECK(!config.error().message.empty());
    return 0;
  }
  const hadal::ModelCounts counts = hadal::Count(*config);
  CHECK(counts.total_parameters > 0 && counts.active_parameters > 0);
  CHECK(counts.kv_elements_per_token > 0 && counts.flops_per_token > 0);
  CHECK(config->attention_scale() > 0);
  // What is written reads back as the same model.
  const auto again = hadal::ModelConfig::FromJson(config->ToJson("float32"));
  CHECK(again.ok());
  CHECK(hadal::Count(*again).total_parameters == counts.total_parameters);
  if (config->layers * (config->gate.experts + 1) < 2000)
    CHECK(!hadal::ListParams(*config).empty());
  return 0;
}
