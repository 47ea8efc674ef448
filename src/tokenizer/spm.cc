#include "tokenizer/spm.h"

#include <algorithm>
#include <cmath>

#include "tokenizer/unicode.h"

namespace hadal::internal {
namespace {

constexpr size_t kMaxTokenBytes = 1024;

}  // namespace

int ByteOfName(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    int digit = 0;
    if (c >= '0' && c <= '9') {
      digit = c - '0';
    } else if (c >= 'A' && c <= 'F') {
      digit = c - 'A' + 10;
    } else if (c >= 'a' && c <= 'f') {
      digit = c - 'a' + 10;
    } else {
      return -1;
    }
    value = value * 16 + digit;
  }
  return value;
}

Status AddScoreMerges(std::span<const std::string> tokens, std::span<const float> scores,
                      std::span<const TokenId> normal, BpeModel* model) {
  std::vector<float> distinct;
  for (const TokenId id : normal) {
    const float score = scores[static_cast<size_t>(id)];
    if (std::isnan(score)) {
      return Error{Code::kNumeric,
                   "tokenizer: the score of token " + std::to_string(id) + " is not a number"};
    }
    distinct.push_back(score);
  }
  std::sort(distinct.begin(), distinct.end(), std::greater<>());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());

  for (const TokenId id : normal) {
    const std::string& token = tokens[static_cast<size_t>(id)];
    if (token.size() > kMaxTokenBytes) {
      return Error{Code::kLimit, "tokenizer: token " + std::to_string(id) + " has " +
                                     std::to_string(token.size()) + " bytes, at most " +
                                     std::to_string(kMaxTokenBytes) + " are accepted"};
    }
    if (!IsValidUtf8(token) || model->Find(token) != id) continue;
    const float score = scores[static_cast<size_t>(id)];
    const auto rank = static_cast<uint32_t>(
        std::lower_bound(distinct.begin(), distinct.end(), score, std::greater<>()) -
        distinct.begin());
    const char* end = token.data() + token.size();
    const size_t first = DecodeUtf8(token.data(), end).size;
    for (size_t cut = first; cut < token.size();) {
      const size_t step = DecodeUtf8(token.data() + cut, end).size;
      const std::string_view left(token.data(), cut);
      const std::string_view right(token.data() + cut, token.size() - cut);
      const TokenId a = cut == first ? model->AddVirtual(left) : model->Find(left);
      const TokenId b = cut + step == token.size() ? model->AddVirtual(right) : model->Find(right);
      if (a >= 0 && b >= 0) model->AddMerge(a, b, rank, id);
      cut += step;
    }
  }
  return {};
}

bool SpaceMarkLeads(std::span<const std::string> tokens, std::span<const TokenId> normal) {
  for (const TokenId id : normal) {
    std::string_view rest = tokens[static_cast<size_t>(id)];
    while (rest.starts_with(kSpaceMark)) rest.remove_prefix(kSpaceMark.size());
    if (rest.find(kSpaceMark) != std::string_view::npos) return false;
  }
  return true;
}

void CutBeforeSpaceMarks(std::string_view text, std::vector<std::string_view>* out) {
  size_t begin = 0;
  for (size_t at = text.find(kSpaceMark); at != std::string_view::npos;) {
    if (at > begin) {
      out->push_back(text.substr(begin, at - begin));
      begin = at;
    }
    size_t after = at + kSpaceMark.size();
    while (text.substr(after).starts_with(kSpaceMark)) after += kSpaceMark.size();
    at = text.find(kSpaceMark, after);
  }
  if (begin < text.size()) out->push_back(text.substr(begin));
}

}  // namespace hadal::internal
