// What `complete --json` prints and `verify --replay` reads: a request, its answer, its timings.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "cli/session.h"

namespace hadal::cli {

std::string AnswerToJson(const Bundle& bundle, int64_t context, const Request& request,
                         const Answer& answer, std::string_view text);

struct Replay {
  std::string model;
  int64_t context = 0;
  Request request;
  std::vector<int32_t> ids;  // what came then
};
// Errors name the member that is missing or of the wrong type.
Result<Replay> ParseReplay(std::string_view json_text);

}  // namespace hadal::cli
