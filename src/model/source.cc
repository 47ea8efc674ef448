// Parameters from a weight file, under either naming.
#include <cstring>
#include <string>
#include <vector>

#include "model/internal_source.h"
#include "tensor/quant.h"

namespace hadal::internal {
namespace {

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) {
    text.append(text.empty() ? "[" : ",").append(std::to_string(size));
  }
  text.push_back(']');
  return text;
}

// rows x cols of a parameter, and where its first row lies within a stacked tensor.
struct Place {
  const TensorInfo* tensor = nullptr;
  int64_t first_row = 0, rows = 0, cols = 0;
  int64_t tensor_rows = 0;  // what the tensor must have in all
};

class FileSource : public ParamSource {
 public:
  FileSource(const WeightFile& file, const ModelConfig& config, const LoadOptions& options,
             bool with_data)
      : file_(file), config_(config), options_(options), with_data_(with_data) {
    for (const TensorInfo& t : file.tensors()) total_ += static_cast<int64_t>(t.bytes.size());
  }

  bool Has(const ParamSpec& spec) const override { return Locate(spec).tensor != nullptr; }

  Result<StoredMatrix> Get(const ParamSpec& spec) override {
    const Place p = Locate(spec);
    if (p.tensor == nullptr) return Missing(spec);
    const TensorInfo& t = *p.tensor;
    if (t.cols() != p.cols || t.rows() != p.tensor_rows) return WrongShape(spec, p);
    if (!IsFloatLike(t.type)) {
      return Error{Code::kUnsupported, Where(t) + ": type " + std::string(Info(t.type).name) +
                                           " does not hold weights"};
    }
    StoredMatrix m{t.type, nullptr, p.rows, p.cols};
    if (t.type == DType::kF8E4M3) m.fp8_scale = TRY(ReadScale(t, p));
    if (with_data_) m.data = t.bytes.data() + p.first_row * RowBytes(t.type, p.cols);
    return m;
  }

  Status Done(const ParamSpec& spec) override {
    const Place p = Locate(spec);
    if (!with_data_) return {};
    done_ += p.rows * RowBytes(p.tensor->type, p.cols);
    // A stacked tensor goes when its last expert is read.
    if (p.first_row + p.rows == p.tensor_rows) file_.Drop(*p.tensor);
    if (options_.progress != nullptr && !options_.progress(options_.progress_user, done_, total_)) {
      return Error{Code::kCancelled, file_.path() + ": loading was cancelled"};
    }
    return {};
  }

 private:
  bool gguf() const { return file_.kind() == WeightFile::Kind::kGguf; }

  Place Locate(const ParamSpec& spec) const {
    Place p;
    p.rows = 1;
    for (size_t i = 0; i + 1 < spec.shape.size(); ++i) p.rows *= spec.shape[i];
    p.cols = spec.shape.back();
    p.tensor_rows = p.rows;
    p.tensor = file_.Find(gguf() && spec.expert < 0 ? spec.gguf_name : spec.name);
    if (spec.expert < 0 || p.tensor != nullptr) return p;
    if (gguf()) {
      p.tensor = file_.Find(spec.gguf_name);
      if (p.tensor != nullptr) {
        p.first_row = spec.expert * p.rows;
        p.tensor_rows = config_.gate.experts * p.rows;
        return p;
      }
      // Before experts were stacked: blk.0.ffn_gate.3.weight.
      const size_t at = spec.gguf_name.find("_exps.");
      p.tensor =
          file_.Find(spec.gguf_name.substr(0, at) + "." + std::to_string(spec.expert) + ".weight");
      return p;
    }
    LocatePacked(spec, p);
    return p;
  }

  // experts.gate_up_proj [E, 2F, D] and experts.down_proj [E, D, F], as newer folders may have.
  void LocatePacked(const ParamSpec& spec, Place& p) const {
    const size_t at = spec.name.find("experts.") + std::strlen("experts.");
    const std::string stem = spec.name.substr(0, at);
    const std::string kind = spec.name.substr(spec.name.find('.', at) + 1);
    const bool gate = kind == "gate_proj.weight" || kind == "w1.weight";
    const bool down = kind == "down_proj.weight" || kind == "w2.weight";
    p.tensor = file_.Find(stem + (down ? "down_proj" : "gate_up_proj"));
    if (p.tensor == nullptr) return;
    const int64_t parts = down ? 1 : 2;
    p.first_row = (spec.expert * parts + (gate || down ? 0 : 1)) * p.rows;
    p.tensor_rows = config_.gate.experts * parts * p.rows;
  }

  std::string Where(const TensorInfo& t) const { return file_.path() + ": tensor " + t.name; }

  Error Missing(const ParamSpec& spec) const {
    const std::string& name = gguf() ? spec.gguf_name : spec.name;
    return {Code::kNotFound, file_.path() + ": tensor " + name + " is missing among " +
                                 std::to_string(file_.tensors().size()) +
                                 " tensors; does the configuration belong to this file, and is "
                                 "every part of it here?"};
  }
  Error WrongShape(const ParamSpec& spec, const Place& p) const {
    std::vector<int64_t> wanted = spec.shape;
    if (p.tensor_rows != p.rows) wanted.insert(wanted.begin(), p.tensor_rows / p.rows);
    return {Code::kCorrupt, Where(*p.tensor) + ": shape " + ShapeText(p.tensor->shape) +
                                ", config wants " + ShapeText(wanted) +
                                "; does the configuration belong to this file?"};
  }

  Result<const float*> ReadScale(const TensorInfo& t, const Place& p) {
    if (p.rows != p.tensor_rows) {
      return Error{Code::kUnsupported, Where(t) + ": stacked experts in F8_E4M3 are not read"};
    }
    const TensorInfo* s = file_.Find(t.name + "_scale_inv");
    if (s == nullptr) {
      return Error{Code::kNotFound, Where(t) + ": is F8_E4M3 but " + t.name +
                                        "_scale_inv, its block scales, is missing"};
    }
    const std::vector<int64_t> wanted = {(p.rows + 127) / 128, (p.cols + 127) / 128};
    if (s->rows() != wanted[0] || s->cols() != wanted[1] ||
        (s->type != DType::kF32 && s->type != DType::kBF16 && s->type != DType::kF16)) {
      return Error{Code::kCorrupt, Where(*s) + ": " + std::string(Info(s->type).name) + " " +
                                       ShapeText(s->shape) + ", wants F32 " + ShapeText(wanted) +
                                       " for blocks of 128x128"};
    }
    scale_.resize(static_cast<size_t>(s->elements()));
    if (with_data_) Dequantize(s->type, s->bytes.data(), scale_.data(), s->elements());
    return scale_.data();
  }

  const WeightFile& file_;
  const ModelConfig& config_;
  LoadOptions options_;
  bool with_data_;
  int64_t total_ = 0, done_ = 0;
  std::vector<float> scale_;
};

}  // namespace

Status Widen(const StoredMatrix& m, float* out) {
  if (m.type == DType::kF8E4M3) {
    DequantizeFp8Block(reinterpret_cast<const uint8_t*>(m.data), m.fp8_scale, out, m.rows, m.cols);
    return {};
  }
  if (m.cols % Info(m.type).block != 0) {
    return Error{Code::kCorrupt, "rows of " + std::to_string(m.cols) + " are not whole blocks of " +
                                     std::string(Info(m.type).name)};
  }
  for (int64_t r = 0; r < m.rows; ++r) {
    Dequantize(m.type, m.data + r * RowBytes(m.type, m.cols), out + r * m.cols, m.cols);
  }
  return {};
}

std::unique_ptr<ParamSource> NewFileSource(const WeightFile& file, const ModelConfig& config,
                                           const LoadOptions& options, bool with_data) {
  return std::make_unique<FileSource>(file, config, options, with_data);
}

}  // namespace hadal::internal
