// What the fuzzers of this module share.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "formats/weight_file.h"
#include "tensor/quant.h"

namespace hadal::test {

// A path in memory of this process's own; removed at exit.
inline std::string FuzzPath(const std::string& ending) {
  static std::vector<std::string> paths;
  const std::string path = "/dev/shm/hadal-fuzz-" + std::to_string(getpid()) + ending;
  if (paths.empty()) {
    std::atexit([] {
      for (const std::string& p : paths) {
        if (p.ends_with(".folder")) {
          for (const char* name : {"config.json", "one.safetensors", "two.safetensors",
                                   "model.safetensors.index.json"}) {
            unlink((p + "/" + name).c_str());
          }
          rmdir(p.c_str());
        }
        unlink(p.c_str());
      }
    });
  }
  paths.push_back(path);
  return path;
}

inline void WriteInput(const std::string& path, const uint8_t* data, size_t size) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, data, size) != static_cast<ssize_t>(size)) std::abort();
  close(fd);
}

inline void OpenAndTouch(const std::string& path) {
  const auto file = WeightFile::Open(path);
  if (!file.ok()) {
    // Every error is one printable line.
    for (const char c : file.error().message) {
      if (static_cast<unsigned char>(c) < 0x20) std::abort();
    }
    return;
  }
  unsigned sum = 0;
  for (const TensorInfo& t : file->tensors()) {
    if (file->Find(t.name) != &t) std::abort();
    for (const std::byte b : t.bytes) sum += static_cast<unsigned>(b);
    if (!IsFloatLike(t.type)) continue;
    std::vector<float> row(static_cast<size_t>(t.cols()));
    Dequantize(t.type, t.bytes.data(), row.data(), t.cols());
    sum += row[0] == 0.0f;
  }
  volatile unsigned sink = sum;
  static_cast<void>(sink);
  if (!file->CheckIntact().ok()) std::abort();
}

}  // namespace hadal::test
