// Models from one kind of file to the other, and from one type of weights to another.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/thread_pool.h"
#include "formats/weight_file.h"
#include "formats/writer.h"
#include "model/config.h"
#include "tensor/dtype.h"

namespace hadal::cli {

struct ConversionOptions {
  DType type = DType::kBF16;
  std::string name;  // general.name
  // Tensors done of all; false stops.
  std::function<bool(int64_t done, int64_t total)> progress;
};
struct ConversionReport {
  std::map<std::string, int64_t> tensors_by_type;
  int64_t fallbacks = 0;  // tensors whose rows do not fit the type asked for
  bool mtp_dropped = false;
};

// A Hugging Face folder to GGUF, with tokenizer, chat template and sampling defaults. The MTP layer
// is left out.
Result<ConversionReport> FolderToGguf(ThreadPool& pool, const WeightFile& file,
                                      const std::string& output, const ConversionOptions& options);
// GGUF to a Hugging Face folder; type BF16 or F32. kUnsupported for what config.json or
// tokenizer.json cannot say: free rope factors, SentencePiece tokenizers.
Result<ConversionReport> GgufToFolder(const WeightFile& file, const std::string& output,
                                      const ConversionOptions& options);
// What a Hugging Face folder of a GGUF holds beside weights and config.json: tokenizer.json,
// tokenizer_config.json (with the chat template), generation_config.json.
Result<std::vector<FolderText>> TokenizerTexts(const WeightFile& file, const ModelConfig& config);
// GGUF to GGUF of another type; metadata kept. Tensors that are not weights keep their type.
Result<ConversionReport> RequantizeGguf(ThreadPool& pool, const WeightFile& file,
                                        const std::string& output,
                                        const ConversionOptions& options);

}  // namespace hadal::cli
