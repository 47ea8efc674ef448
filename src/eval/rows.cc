#include "eval/rows.h"

#include <zlib.h>

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace hadal::eval {
namespace {

using nlohmann::json;

constexpr uint64_t kMostBytes = 1ull << 30;

Result<std::string> Inflate(const std::string& path, std::string_view packed) {
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return Error{Code::kMemory, "zlib does not start"};
  std::string out;
  std::vector<char> block(1 << 16);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  int state = Z_OK;
  while (state == Z_OK && out.size() <= kMostBytes) {
    stream.next_out = reinterpret_cast<Bytef*>(block.data());
    stream.avail_out = static_cast<uInt>(block.size());
    state = inflate(&stream, Z_NO_FLUSH);
    out.append(block.data(), block.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (out.size() > kMostBytes) return Error{Code::kLimit, path + ": unpacks to over 1 GB"};
  if (state != Z_STREAM_END) return Error{Code::kCorrupt, path + ": damaged or cut off gzip"};
  return out;
}

bool Scalar(const json& value) { return value.is_string() || value.is_number(); }
std::string TextOf(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

Row ToRow(const json& object, int64_t line) {
  Row row;
  row.line = line;
  for (const auto& [key, value] : object.items()) {
    if (Scalar(value)) {
      row.text[key] = TextOf(value);
    } else if (value.is_array()) {
      auto& list = row.lists[key];
      for (const json& item : value) {
        if (Scalar(item)) list.push_back(TextOf(item));
      }
    }
  }
  return row;
}

}  // namespace

Result<std::string> Row::Get(const std::string& key) const {
  const auto it = text.find(key);
  if (it == text.end()) {
    return Error{Code::kInvalid,
                 "line " + std::to_string(line) + ": no text or number \"" + key + "\""};
  }
  return it->second;
}

Result<std::vector<std::string>> Row::List(const std::string& key) const {
  const auto it = lists.find(key);
  if (it == lists.end()) {
    return Error{Code::kInvalid, "line " + std::to_string(line) + ": no array \"" + key + "\""};
  }
  return it->second;
}

Result<std::vector<Row>> ReadRows(const std::string& path) {
  std::string bytes = TRY(ReadFile(path, kMostBytes));
  if (path.ends_with(".gz")) bytes = TRY(Inflate(path, bytes));
  std::vector<Row> rows;
  int64_t line = 0;
  for (size_t at = 0; at < bytes.size();) {
    const size_t end = std::min(bytes.find('\n', at), bytes.size());
    const std::string_view text = std::string_view(bytes).substr(at, end - at);
    at = end + 1;
    ++line;
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const json object = json::parse(text, nullptr, false);
    if (!object.is_object()) {
      return Error{Code::kCorrupt, path + ": line " + std::to_string(line) + " is no JSON object"};
    }
    rows.push_back(ToRow(object, line));
  }
  if (rows.empty()) return Error{Code::kCorrupt, path + ": no rows"};
  return rows;
}

}  // namespace hadal::eval
