// The first byte of the input chooses: a safetensors file, or the index of a folder that has two
// good shards. As in gguf_fuzz.cc, everything that opens is read.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>

#include "formats/test_files.h"
#include "formats/test_fuzz.h"

namespace {

std::string MakeFolder() {
  const std::string folder = hadal::test::FuzzPath(".folder");
  std::filesystem::create_directories(folder);
  const auto write = [&](const std::string& name, const std::string& text) {
    hadal::test::WriteInput(folder + "/" + name, reinterpret_cast<const uint8_t*>(text.data()),
                            text.size());
  };
  const auto shard = [](const std::string& name) {
    return hadal::test::SafetensorsBytes(
        "{\"" + name + "\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}", "xy");
  };
  write("config.json", "{}");
  write("one.safetensors", shard("a"));
  write("two.safetensors", shard("b"));
  return folder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string path = hadal::test::FuzzPath(".safetensors");
  static const std::string folder = MakeFolder();
  if (size == 0) return 0;
  if (data[0] == 'i') {
    hadal::test::WriteInput(folder + "/model.safetensors.index.json", data + 1, size - 1);
    hadal::test::OpenAndTouch(folder);
  } else {
    hadal::test::WriteInput(path, data + 1, size - 1);
    hadal::test::OpenAndTouch(path);
  }
  return 0;
}
