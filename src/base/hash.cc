#include "base/hash.h"

#include <openssl/evp.h>

#include "base/check.h"
#include "base/file.h"

namespace hadal {

struct Sha256::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~Impl() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
  CHECK(EVP_DigestInit_ex(impl_->context, EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() = default;

void Sha256::Update(const void* data, size_t size) {
  CHECK(EVP_DigestUpdate(impl_->context, data, size) == 1);
}

std::string Sha256::Hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  CHECK(EVP_DigestFinal_ex(impl_->context, digest, &size) == 1);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned i = 0; i < size; ++i) {
    hex += kDigits[digest[i] >> 4];
    hex += kDigits[digest[i] & 15];
  }
  return hex;
}

std::string Sha256Hex(std::string_view data) {
  Sha256 hash;
  hash.Update(data.data(), data.size());
  return hash.Hex();
}

Result<std::string> Sha256File(const std::string& path) {
  const auto file = TRY(MappedFile::Open(path));
  Sha256 hash;
  constexpr size_t kChunk = size_t{8} << 20;
  const auto bytes = file.bytes();
  for (size_t at = 0; at < bytes.size(); at += kChunk) {
    const auto part = bytes.subspan(at, std::min(kChunk, bytes.size() - at));
    hash.Update(part.data(), part.size());
    file.DropPages(part);
  }
  if (file.damaged()) return Error{Code::kCorrupt, path + ": cut off while being read"};
  return hash.Hex();
}

}  // namespace hadal
