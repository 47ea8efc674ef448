// Rows of a JSONL file, plain or gzip, as text fields.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hadal::eval {

struct Row {
  std::map<std::string, std::string> text;                // numbers as they are written
  std::map<std::string, std::vector<std::string>> lists;  // arrays of strings and numbers
  int64_t line = 0;

  // Errors name the file's line and the missing key.
  Result<std::string> Get(const std::string& key) const;
  Result<std::vector<std::string>> List(const std::string& key) const;
};
// Other members (objects, nulls, nested arrays) are left out. Errors: kNotFound when the file is
// absent, kCorrupt with path and line for what is no JSON object, kLimit over 1 GB.
Result<std::vector<Row>> ReadRows(const std::string& path);

}  // namespace hadal::eval
