// Any bytes as tokenizer.json: an error or a tokenizer that keeps its promises.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = hadal::Tokenizer::FromJson(json);
  if (!tokenizer.ok()) {
    if (tokenizer.error().message.empty()) std::abort();
    return 0;
  }
  for (const std::string text :
       {"Hello, world's 1234 <s> \xC3\xA9\xF0\x9F\x98\x80  \n\n x",
        "\xFF\xC3(aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}) {
    for (const auto& ids : {tokenizer->Encode(text), tokenizer->EncodeWithSpecials(text)}) {
      for (const hadal::TokenId id : ids) {
        if (id < 0 || id >= tokenizer->vocab_size()) std::abort();
      }
      hadal::StreamDecoder decoder(*tokenizer);
      for (const hadal::TokenId id : ids) (void)decoder.Push(id);
      (void)decoder.Flush();
      (void)tokenizer->Decode(ids);
    }
  }
  (void)tokenizer->ToSpec();
  return 0;
}
