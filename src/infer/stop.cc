#include "infer/stop.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace hadal {

// A trie numbered breadth first, so the children of a node are consecutive and sorted by byte.
struct StopMatcher::Automaton {
  struct Node {
    uint32_t first_child = 0, children = 0;
    uint32_t fail = 0;  // the longest proper suffix of this path that is a path too
    uint32_t depth = 0;
    uint32_t length = 0;  // of the longest string that ends here, 0 when none does
    uint8_t byte = 0;     // on the edge from its parent
  };
  std::vector<Node> nodes;

  // 0 when there is no such child.
  uint32_t Child(uint32_t at, uint8_t byte) const {
    const auto begin = nodes.begin() + nodes[at].first_child;
    const auto end = begin + nodes[at].children;
    const auto found =
        std::lower_bound(begin, end, byte, [](const Node& n, uint8_t b) { return n.byte < b; });
    return found != end && found->byte == byte ? static_cast<uint32_t>(found - nodes.begin()) : 0;
  }
  uint32_t Next(uint32_t at, uint8_t byte) const {
    for (;;) {
      if (const uint32_t child = Child(at, byte)) return child;
      if (at == 0) return 0;
      at = nodes[at].fail;
    }
  }
};

Result<StopMatcher> StopMatcher::Create(std::span<const std::string> strings) {
  std::vector<std::string_view> sorted;
  size_t bytes = 0;
  for (const std::string& s : strings) {
    if (s.empty()) return Error{Code::kInvalid, "a stop string is empty"};
    bytes += s.size();
    sorted.push_back(s);
  }
  if (bytes > kMaxBytes) {
    return Error{Code::kLimit, "the stop strings have " + std::to_string(bytes) +
                                   " bytes together, at most " + std::to_string(kMaxBytes) +
                                   " are allowed"};
  }
  std::ranges::sort(sorted);
  auto automaton = std::make_unique<Automaton>();
  auto& nodes = automaton->nodes;
  nodes.resize(1);
  // The strings below each node: a range of the sorted list.
  std::vector<std::pair<size_t, size_t>> ranges = {{0, sorted.size()}};
  for (uint32_t at = 0; at < nodes.size(); ++at) {
    const uint32_t depth = nodes[at].depth;
    auto [begin, end] = ranges[at];
    while (begin < end && sorted[begin].size() == depth) {
      nodes[at].length = depth;
      ++begin;
    }
    nodes[at].first_child = static_cast<uint32_t>(nodes.size());
    while (begin < end) {
      const auto byte = static_cast<uint8_t>(sorted[begin][depth]);
      size_t stop = begin;
      while (stop < end && static_cast<uint8_t>(sorted[stop][depth]) == byte) ++stop;
      nodes.push_back({.depth = depth + 1, .byte = byte});
      ranges.emplace_back(begin, stop);
      ++nodes[at].children;
      begin = stop;
    }
  }
  // Breadth first: what a failure link points to is shallower, hence complete.
  for (uint32_t at = 0; at < nodes.size(); ++at) {
    for (uint32_t i = 0; i < nodes[at].children; ++i) {
      Automaton::Node& child = nodes[nodes[at].first_child + i];
      child.fail = at == 0 ? 0 : automaton->Next(nodes[at].fail, child.byte);
      if (child.length == 0) child.length = nodes[child.fail].length;
    }
  }
  return StopMatcher(std::move(automaton));
}

StopMatcher::StopMatcher(std::unique_ptr<const Automaton> automaton)
    : automaton_(std::move(automaton)) {}
StopMatcher::StopMatcher(StopMatcher&&) noexcept = default;
StopMatcher& StopMatcher::operator=(StopMatcher&&) noexcept = default;
StopMatcher::~StopMatcher() = default;

bool StopMatcher::Feed(std::string_view text, std::string* safe) {
  if (matched()) return true;
  const auto& nodes = automaton_->nodes;
  for (size_t i = 0; i < text.size(); ++i) {
    state_ = automaton_->Next(state_, static_cast<uint8_t>(text[i]));
    const uint32_t length = nodes[state_].length;
    if (length == 0) continue;
    match_begin_ = fed_ + static_cast<int64_t>(i) + 1 - int64_t{length};
    const auto first = fed_ - static_cast<int64_t>(held_.size());  // of the text held back
    if (safe != nullptr) {
      held_.append(text.substr(0, i + 1));
      safe->append(held_, 0, static_cast<size_t>(match_begin_ - first));
    }
    held_.clear();
    fed_ += static_cast<int64_t>(text.size());
    return true;
  }
  fed_ += static_cast<int64_t>(text.size());
  if (safe == nullptr) return false;
  held_.append(text);
  const size_t shown = held_.size() - nodes[state_].depth;
  safe->append(held_, 0, shown);
  held_.erase(0, shown);
  return false;
}

void StopMatcher::Finish(std::string* safe) {
  if (!matched()) safe->append(held_);
  held_.clear();
}

}  // namespace hadal
