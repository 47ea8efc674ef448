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

  size_t bytes = 0;
  for (const TokenId id : normal) bytes += tokens[static_cast<size_t>(id)].size();
  model->ReserveMerges(bytes / 2);
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

void CutTable::AddMerged(std::string_view text) {
  std::string_view rest = text;
  while (rest.starts_with(kSpaceMark)) rest.remove_prefix(kSpaceMark.size());
  if (rest.find(kSpaceMark) != std::string_view::npos) marks_lead_ = false;
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    const auto a = static_cast<uint8_t>(text[i]), b = static_cast<uint8_t>(text[i + 1]);
    if ((a | b) < 0x80) joined_[a][b >> 6] |= uint64_t{1} << (b & 63);
  }
}

void CutTable::Cut(std::string_view text, std::vector<std::string_view>* out) const {
  size_t begin = 0;
  bool after_mark = false;
  uint8_t previous = 0xFF;
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<uint8_t>(text[i]);
    const bool mark = c == static_cast<uint8_t>(kSpaceMark[0]) &&
                      text.compare(i, kSpaceMark.size(), kSpaceMark) == 0;
    const bool cut =
        mark ? marks_lead_ && !after_mark : (c | previous) < 0x80 && !Joins(previous, c);
    if (cut && i > begin) {
      out->push_back(text.substr(begin, i - begin));
      begin = i;
    }
    after_mark = mark;
    previous = c;
    i += mark ? kSpaceMark.size() : 1;
  }
  if (begin < text.size()) out->push_back(text.substr(begin));
}

}  // namespace hadal::internal
