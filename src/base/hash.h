// SHA-256 of files and strings, as lower-case hex.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hadal {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(const void* data, size_t size);
  std::string Hex();  // ends the computation

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string Sha256Hex(std::string_view data);
Result<std::string> Sha256File(const std::string& path);

}  // namespace hadal
