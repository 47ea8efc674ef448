// Building blocks of the format tests: temporary folders and files made byte by byte.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <type_traits>
#include <vector>

namespace hadal::test {

// A folder that disappears with its owner.
class TempFolder {
 public:
  TempFolder() {
    std::string form = (std::filesystem::temp_directory_path() / "hadal-formats-XXXXXX").string();
    path_ = mkdtemp(form.data());
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  // Writes a file into the folder; returns its path.
  std::string Write(const std::string& name, const std::string& bytes) const {
    std::ofstream(*this / name, std::ios::binary) << bytes;
    return *this / name;
  }

 private:
  std::string path_;
};

inline std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The pieces of a GGUF file; each may lie.
class GgufBytes {
 public:
  template <typename T>
  GgufBytes& Number(T v) {
    static_assert(std::is_arithmetic_v<T>);
    text_.append(reinterpret_cast<const char*>(&v), sizeof v);
    return *this;
  }
  GgufBytes& Raw(const std::string& bytes) {
    text_ += bytes;
    return *this;
  }
  GgufBytes& String(const std::string& s) { return Number(uint64_t{s.size()}).Raw(s); }
  GgufBytes& Header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    return Raw("GGUF").Number(version).Number(tensors).Number(keys);
  }
  template <typename T>
  GgufBytes& Key(const std::string& key, uint32_t type, T value) {
    return String(key).Number(type).Number(value);
  }
  GgufBytes& KeyString(const std::string& key, const std::string& value) {
    return String(key).Number(uint32_t{8}).String(value);
  }
  // dims in the file's order, innermost first.
  GgufBytes& Tensor(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type,
                    uint64_t offset) {
    String(name).Number(static_cast<uint32_t>(dims.size()));
    for (const uint64_t d : dims) Number(d);
    return Number(type).Number(offset);
  }
  GgufBytes& Align(size_t alignment = 32) {
    text_.resize((text_.size() + alignment - 1) / alignment * alignment, '\0');
    return *this;
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

inline constexpr uint32_t kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ8_0 = 8;

// A safetensors file from its header text and its data.
inline std::string SafetensorsBytes(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

}  // namespace hadal::test
