#include "tokenizer/byte_bpe.h"

#include <algorithm>
#include <queue>

#include "tokenizer/unicode.h"

namespace hadal::internal {
namespace {

// Up to this many symbols scanning all pairs beats keeping a heap.
constexpr size_t kShort = 48;

}  // namespace

BpeModel::BpeModel(Options options, TokenId vocab_size)
    : options_(options),
      vocab_size_(vocab_size),
      pieces_(static_cast<size_t>(vocab_size)),
      stable_(std::make_unique<std::atomic<uint8_t>[]>(static_cast<size_t>(vocab_size))) {
  bytes_.fill(-1);
  fallback_.fill(-1);
}

TokenId BpeModel::AddVirtual(std::string_view character) {
  const TokenId known = pieces_.Find(character);
  if (known >= 0) return known;
  const TokenId id = vocab_size_ + static_cast<TokenId>(virtuals_.size());
  virtuals_.emplace_back(character);
  pieces_.Insert(character, id);
  return id;
}

bool BpeModel::FusesUnknown() const {
  return options_.fuse_unknown && options_.unknown &&
         std::find(fallback_.begin(), fallback_.end(), -1) != fallback_.end();
}

void BpeModel::Finish() {
  if (!options_.byte_level) return;
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    bytes_[b] = pieces_.Find({&byte, 1});
  }
  std::string replacement;
  AppendUtf8(kReplacement, &replacement);
  bool expressible = true;
  for (const char c : replacement) expressible &= bytes_[static_cast<uint8_t>(c)] >= 0;
  if (expressible) EncodeByMerges(replacement, &broken_);
}

void BpeModel::AppendUnmatched(std::string_view character, std::vector<TokenId>* symbols) const {
  bool all = true;
  for (const char c : character) all &= fallback_[static_cast<uint8_t>(c)] >= 0;
  if (all) {
    for (const char c : character) symbols->push_back(fallback_[static_cast<uint8_t>(c)]);
    return;
  }
  if (!options_.unknown) return;
  if (options_.fuse_unknown && !symbols->empty() && symbols->back() == *options_.unknown) return;
  symbols->push_back(*options_.unknown);
}

void BpeModel::InitialSymbols(std::string_view piece, std::vector<TokenId>* symbols) const {
  if (options_.byte_level) {
    const char* stop = piece.data() + piece.size();
    for (const char* p = piece.data(); p < stop;) {
      const Utf8Char c = DecodeUtf8(p, stop);
      for (const char* last = p + c.size; p < last; ++p) {
        const TokenId id = bytes_[static_cast<uint8_t>(*p)];
        if (id >= 0) {
          symbols->push_back(id);
        } else if (!c.valid && !broken_.empty()) {
          symbols->insert(symbols->end(), broken_.begin(), broken_.end());
        } else if (options_.unknown) {
          symbols->push_back(*options_.unknown);
        }
      }
    }
    return;
  }
  const char* end = piece.data() + piece.size();
  for (const char* p = piece.data(); p < end;) {
    const Utf8Char c = DecodeUtf8(p, end);
    const std::string_view character(p, c.size);
    const TokenId id = c.valid ? pieces_.Find(character) : -1;
    if (id >= 0) {
      symbols->push_back(id);
    } else {
      AppendUnmatched(character, symbols);
    }
    p += c.size;
  }
}

void BpeModel::MergeShort(TokenId* symbols, size_t* count) const {
  MergeTable::Merge pairs[kShort];
  size_t n = *count;
  for (size_t i = 0; i + 1 < n; ++i) pairs[i] = merges_.Find(symbols[i], symbols[i + 1]);
  while (n > 1) {
    uint32_t best = UINT32_MAX;
    size_t at = 0;
    for (size_t i = 0; i + 1 < n; ++i) {
      if (pairs[i].rank < best) {
        best = pairs[i].rank;
        at = i;
      }
    }
    if (best == UINT32_MAX) break;
    symbols[at] = pairs[at].id;
    --n;
    for (size_t i = at + 1; i < n; ++i) symbols[i] = symbols[i + 1];
    for (size_t i = at + 1; i + 1 < n; ++i) pairs[i] = pairs[i + 1];
    if (at + 1 < n) pairs[at] = merges_.Find(symbols[at], symbols[at + 1]);
    if (at > 0) pairs[at - 1] = merges_.Find(symbols[at - 1], symbols[at]);
  }
  *count = n;
}

void BpeModel::MergeLong(std::vector<TokenId>* symbols) const {
  struct Node {
    TokenId id;  // -1: swallowed by its left neighbour
    uint32_t previous, next;
  };
  constexpr uint32_t kNone = UINT32_MAX;
  struct Candidate {
    uint32_t rank, at;
    TokenId merged;
    bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  const size_t n = symbols->size();
  std::vector<Node> nodes(n);
  std::vector<Candidate> heap;
  for (size_t i = 0; i < n; ++i) {
    nodes[i] = {(*symbols)[i], i == 0 ? kNone : static_cast<uint32_t>(i - 1),
                i + 1 == n ? kNone : static_cast<uint32_t>(i + 1)};
    if (i + 1 == n) break;
    const MergeTable::Merge m = merges_.Find((*symbols)[i], (*symbols)[i + 1]);
    if (m.id >= 0) heap.push_back({m.rank, static_cast<uint32_t>(i), m.id});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>(),
                                                                               std::move(heap));
  const auto offer = [&](uint32_t left) {
    const MergeTable::Merge m = merges_.Find(nodes[left].id, nodes[nodes[left].next].id);
    if (m.id >= 0) queue.push({m.rank, left, m.id});
  };
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Node& node = nodes[top.at];
    if (node.id < 0 || node.next == kNone) continue;
    // The pair may have changed since it was queued.
    if (merges_.Find(node.id, nodes[node.next].id).id != top.merged) continue;
    Node& right = nodes[node.next];
    node.id = top.merged;
    right.id = -1;
    node.next = right.next;
    if (node.next != kNone) nodes[node.next].previous = top.at;
    if (node.previous != kNone) offer(node.previous);
    if (node.next != kNone) offer(top.at);
  }
  symbols->clear();
  for (uint32_t i = 0; i != kNone && n > 0; i = nodes[i].next) symbols->push_back(nodes[i].id);
}

void BpeModel::EncodeByMerges(std::string_view piece, std::vector<TokenId>* out) const {
  if (options_.byte_level && piece.size() <= kShort) {
    TokenId symbols[kShort];
    size_t n = 0;
    for (const char c : piece) {
      const TokenId id = bytes_[static_cast<uint8_t>(c)];
      if (id < 0) break;
      symbols[n++] = id;
    }
    if (n == piece.size()) {
      MergeShort(symbols, &n);
      out->insert(out->end(), symbols, symbols + n);
      return;
    }
  }
  std::vector<TokenId> symbols;
  symbols.reserve(piece.size());
  InitialSymbols(piece, &symbols);
  if (symbols.size() <= kShort) {
    size_t n = symbols.size();
    MergeShort(symbols.data(), &n);
    symbols.resize(n);
  } else {
    MergeLong(&symbols);
  }
  if (virtuals_.empty()) {
    out->insert(out->end(), symbols.begin(), symbols.end());
    return;
  }
  for (const TokenId id : symbols) {
    if (id < vocab_size_) {
      out->push_back(id);
    } else {
      AppendUnmatched(virtuals_[static_cast<size_t>(id - vocab_size_)], out);
    }
  }
}

bool BpeModel::IsStable(std::string_view piece, TokenId id) const {
  std::atomic<uint8_t>& state = stable_[static_cast<size_t>(id)];
  uint8_t known = state.load(std::memory_order_relaxed);
  if (known == 0) {
    std::vector<TokenId> ids;
    EncodeByMerges(piece, &ids);
    known = ids.size() == 1 && ids[0] == id ? 1 : 2;
    state.store(known, std::memory_order_relaxed);
  }
  return known == 1;
}

void BpeModel::Encode(std::string_view piece, std::vector<TokenId>* out) const {
  if (piece.empty()) return;
  const TokenId id = pieces_.Find(piece);
  if (id >= 0 && id < vocab_size_ && (options_.ignore_merges || IsStable(piece, id))) {
    out->push_back(id);
    return;
  }
  EncodeByMerges(piece, out);
}

}  // namespace hadal::internal
