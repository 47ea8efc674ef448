// Opens the input as a GGUF file, reads every byte of every tensor and decodes the first row of
// each. The input lies in /dev/shm, so that it goes through the real mapping.
#include <cstddef>
#include <cstdint>
#include <string>

#include "formats/test_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string path = hadal::test::FuzzPath(".gguf");
  hadal::test::WriteInput(path, data, size);
  hadal::test::OpenAndTouch(path);
  return 0;
}
