// What `hadal inspect` finds out, for the command and its tests.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "base/result.h"
#include "formats/weight_file.h"
#include "model/config.h"

namespace hadal::cli {

struct Inspection {
  std::unique_ptr<WeightFile> file;  // null for a config.json alone
  ModelConfig config;
  ModelCounts counts;
  std::map<std::string, int64_t> bytes_by_type;
};
// path: a GGUF file, a Hugging Face folder with or without weights, or a config.json.
Result<Inspection> Inspect(const std::string& path);
std::string InspectionToJson(const Inspection& inspection, bool tensors);

}  // namespace hadal::cli
