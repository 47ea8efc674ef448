#include "data/loader.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/check.h"
#include "base/rng.h"
#include "data/shard.h"

namespace hadal {
namespace {

using nlohmann::json;

uint64_t Key(uint64_t seed, uint64_t a, uint64_t b) {
  const uint64_t words[3] = {seed, a, b};
  return XXH64(words, sizeof words, 0x10AD);
}

// A piece of a document in the window's flat arrays.
struct Span {
  size_t begin, end;
  PieceSource source;
};

}  // namespace

std::string Cursor::ToJson() const {
  json list = json::array();
  for (const Set& s : sets) {
    list.push_back({{"epoch", s.epoch}, {"position", s.position}, {"tokens", s.tokens}});
  }
  const json out = {{"sets", std::move(list)},
                    {"sequence", sequence},
                    {"sequences", sequences},
                    {"stream", stream}};
  return out.dump();
}

Result<Cursor> Cursor::FromJson(std::string_view text) {
  const json in = json::parse(text, nullptr, false);
  const Error bad{Code::kInvalid,
                  "the data cursor is malformed: expected an object with sets, "
                  "sequence, sequences and stream"};
  bool good = in.is_object() && in.contains("sets") && in["sets"].is_array();
  const auto number = [&](const json& object, const char* key) -> int64_t {
    const auto it = object.is_object() ? object.find(key) : object.end();
    if (!object.is_object() || it == object.end() || !it->is_number_integer() ||
        (it->is_number_unsigned() && it->get<uint64_t>() > INT64_MAX) || it->get<int64_t>() < 0) {
      good = false;
      return 0;
    }
    return it->get<int64_t>();
  };
  if (!good) return bad;
  Cursor cursor;
  for (const json& s : in["sets"]) {
    cursor.sets.push_back({.epoch = number(s, "epoch"),
                           .position = number(s, "position"),
                           .tokens = number(s, "tokens")});
  }
  cursor.sequence = number(in, "sequence");
  cursor.sequences = number(in, "sequences");
  if (!in.contains("stream") || !in["stream"].is_number_unsigned()) return bad;
  cursor.stream = in["stream"].get<uint64_t>();
  if (!good) return bad;
  return cursor;
}

struct Loader::Impl {
  LoaderOptions options;
  std::vector<ShardSet> sets;
  uint64_t stream = 0;
  int64_t tokens = 0, documents = 0;

  std::vector<Cursor::Set> start, next;  // where the window began, where it ended
  int64_t sequence = 0, sequences = 0;
  bool filled = false;

  // The window: its pieces laid end to end, and the sequences to give out.
  std::vector<int32_t> ids;
  std::vector<uint8_t> loss;
  std::vector<Span> pieces;
  std::vector<std::vector<int32_t>> bins;
  std::vector<std::optional<Permutation>> orders;
  std::vector<int64_t> order_epochs;

  void Identify();
  std::optional<size_t> ChooseSet() const;
  int64_t DocumentAt(size_t set, const Cursor::Set& at);
  Status AddDocument(size_t set);
  Status FillWindow();
  Status PrepareWindow();
  void Pack();
  PackedSequence Take(const std::vector<int32_t>& bin) const;
  Status CheckCursor(const Cursor& cursor) const;
};

// What decides the stream, apart from the documents' own bytes (the shards' checksums guard those).
void Loader::Impl::Identify() {
  std::vector<uint64_t> facts = {static_cast<uint64_t>(options.sequence_length), options.seed,
                                 uint64_t{options.shuffle}, uint64_t{options.once},
                                 static_cast<uint64_t>(options.window_sequences)};
  for (size_t i = 0; i < sets.size(); ++i) {
    uint64_t weight;
    std::memcpy(&weight, &options.sets[i].weight, sizeof weight);
    facts.insert(facts.end(), {weight, static_cast<uint64_t>(sets[i].tokens()),
                               static_cast<uint64_t>(sets[i].documents()),
                               static_cast<uint64_t>(sets[i].targets())});
  }
  const std::string& hash = sets.front().tokenizer_hash();
  stream = XXH64(facts.data(), facts.size() * sizeof facts[0], XXH64(hash.data(), hash.size(), 0));
}

// The set whose tokens so far are the smallest part of its weight; the first of equals.
std::optional<size_t> Loader::Impl::ChooseSet() const {
  std::optional<size_t> best;
  double least = 0;
  for (size_t i = 0; i < sets.size(); ++i) {
    if (options.once && next[i].epoch > 0) continue;
    const double share = static_cast<double>(next[i].tokens) / options.sets[i].weight;
    if (!best || share < least) {
      best = i;
      least = share;
    }
  }
  return best;
}

int64_t Loader::Impl::DocumentAt(size_t set, const Cursor::Set& at) {
  if (!options.shuffle) return at.position;
  if (!orders[set] || order_epochs[set] != at.epoch) {
    orders[set].emplace(static_cast<uint64_t>(sets[set].documents()),
                        Key(options.seed, set, static_cast<uint64_t>(at.epoch)));
    order_epochs[set] = at.epoch;
  }
  return static_cast<int64_t>((*orders[set])(static_cast<uint64_t>(at.position)));
}

Status Loader::Impl::AddDocument(size_t set) {
  Cursor::Set& at = next[set];
  const size_t begin = ids.size();
  const auto [shard, document] = sets[set].Locate(DocumentAt(set, at));
  TRY(shard->Read(document, &ids, &loss));
  const auto piece = static_cast<size_t>(options.sequence_length);
  int64_t targets = 0;
  for (size_t i = begin; i < ids.size(); i += piece) {
    const size_t end = std::min(i + piece, ids.size());
    loss[i] = 0;  // its sequence holds nothing before it
    pieces.push_back({i, end, {shard->checksum(), document, targets}});
    targets += std::count(loss.begin() + static_cast<ptrdiff_t>(i),
                          loss.begin() + static_cast<ptrdiff_t>(end), 1);
  }
  at.tokens += static_cast<int64_t>(ids.size() - begin);
  if (++at.position == sets[set].documents()) {
    at.position = 0;
    ++at.epoch;
  }
  return {};
}

Status Loader::Impl::FillWindow() {
  ids.clear();
  loss.clear();
  pieces.clear();
  const auto want = static_cast<size_t>(options.window_sequences * options.sequence_length);
  while (ids.size() < want) {
    const auto set = ChooseSet();
    if (!set) break;
    TRY(AddDocument(*set));
  }
  Pack();
  return {};
}

void Loader::Impl::Pack() {
  std::vector<int32_t> lengths;
  for (const Span& p : pieces) lengths.push_back(static_cast<int32_t>(p.end - p.begin));
  bins = BestFit(lengths, static_cast<int32_t>(options.sequence_length));
  std::erase_if(bins, [&](const std::vector<int32_t>& bin) {
    return std::none_of(bin.begin(), bin.end(), [&](int32_t p) {
      const Span& span = pieces[static_cast<size_t>(p)];
      return std::memchr(loss.data() + span.begin, 1, span.end - span.begin) != nullptr;
    });
  });
  if (!options.shuffle || bins.empty()) return;
  // Best-fit leaves the full sequences in front; a batch should be a fair sample of its window.
  uint64_t where = 0;
  for (const Cursor::Set& s : start) where = Key(where, static_cast<uint64_t>(s.tokens), 1);
  const Permutation order(bins.size(), Key(options.seed, where, 2));
  std::vector<std::vector<int32_t>> shuffled(bins.size());
  for (size_t i = 0; i < bins.size(); ++i) shuffled[i] = std::move(bins[order(i)]);
  bins = std::move(shuffled);
}

// Fills windows until one has a sequence to give, or the stream ends (no bins).
Status Loader::Impl::PrepareWindow() {
  if (filled && sequence < static_cast<int64_t>(bins.size())) return {};
  const std::vector<Cursor::Set> from = next;
  while (true) {
    if (filled) {
      start = next;
      sequence = 0;
    }
    filled = false;  // an error on the way leaves the cursor where the window starts
    next = start;
    TRY(FillWindow());
    filled = true;
    if (!bins.empty() || !ChooseSet()) return {};
    bool whole_pass = true;
    for (size_t i = 0; i < sets.size(); ++i) whole_pass &= next[i].epoch > from[i].epoch + 1;
    if (whole_pass) {
      return Error{
          Code::kInvalid,
          "no sequence of " + std::to_string(options.sequence_length) +
              " tokens has anything to learn from: every target is the first of its piece"};
    }
  }
}

PackedSequence Loader::Impl::Take(const std::vector<int32_t>& bin) const {
  PackedSequence out;
  for (const int32_t p : bin) {
    const Span& span = pieces[static_cast<size_t>(p)];
    const auto begin = static_cast<ptrdiff_t>(span.begin), end = static_cast<ptrdiff_t>(span.end);
    out.document_first.push_back(static_cast<int32_t>(out.tokens.size()));
    out.sources.push_back(span.source);
    out.tokens.insert(out.tokens.end(), ids.begin() + begin, ids.begin() + end);
    out.loss.insert(out.loss.end(), loss.begin() + begin, loss.begin() + end);
  }
  return out;
}

Status Loader::Impl::CheckCursor(const Cursor& cursor) const {
  bool good = cursor.stream == stream && cursor.sets.size() == sets.size();
  for (size_t i = 0; good && i < sets.size(); ++i) {
    const Cursor::Set& s = cursor.sets[i];
    good = s.epoch >= 0 && s.position >= 0 && s.position < sets[i].documents() && s.tokens >= 0;
  }
  if (good && cursor.sequence >= 0 && cursor.sequences >= 0) return {};
  return Error{
      Code::kInvalid,
      "the data cursor belongs to another stream: data sets, weights, sequence length, seed "
      "and window must be those of the run that wrote it"};
}

Loader::Loader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Loader::Loader(Loader&&) noexcept = default;
Loader& Loader::operator=(Loader&&) noexcept = default;
Loader::~Loader() = default;

Result<Loader> Loader::Open(const LoaderOptions& options) {
  if (options.sets.empty()) return Error{Code::kInvalid, "no data set to read"};
  if (options.sequence_length < 2 || options.sequence_length > (1 << 28)) {
    return Error{Code::kInvalid, "sequence length " + std::to_string(options.sequence_length) +
                                     " is outside 2 to 268435456"};
  }
  if (options.window_sequences < 1 || options.window_sequences > (1 << 20) ||
      options.window_sequences * options.sequence_length > (int64_t{1} << 30)) {
    return Error{Code::kInvalid, "a packing window of " + std::to_string(options.window_sequences) +
                                     " sequences of " + std::to_string(options.sequence_length) +
                                     " tokens is outside 1 to 2^30 tokens"};
  }
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  for (const WeightedSet& set : options.sets) {
    if (!(set.weight > 0) || !std::isfinite(set.weight)) {
      return Error{Code::kInvalid, "the weight of " + set.path + " is " +
                                       std::to_string(set.weight) + ", it must be above 0"};
    }
    const std::string& want = options.tokenizer_hash.empty() && !impl->sets.empty()
                                  ? impl->sets.front().tokenizer_hash()
                                  : options.tokenizer_hash;
    impl->sets.push_back(TRY(ShardSet::Open(set.path, want)));
    const ShardSet& opened = impl->sets.back();
    if (opened.targets() == 0) {
      return Error{Code::kInvalid,
                   set.path +
                       ": every token is masked, so there is nothing to learn from (hadal "
                       "data look shows the loss mask)"};
    }
    impl->tokens += opened.tokens();
    impl->documents += opened.documents();
  }
  impl->Identify();
  impl->start.resize(impl->sets.size());
  impl->next.resize(impl->sets.size());
  impl->orders.resize(impl->sets.size());
  impl->order_epochs.resize(impl->sets.size());
  return Loader(std::move(impl));
}

Result<std::vector<PackedSequence>> Loader::Next(int64_t count) {
  CHECK(count >= 0);
  std::vector<PackedSequence> out;
  while (static_cast<int64_t>(out.size()) < count) {
    TRY(impl_->PrepareWindow());
    if (impl_->bins.empty()) break;
    out.push_back(impl_->Take(impl_->bins[static_cast<size_t>(impl_->sequence)]));
    ++impl_->sequence;
    ++impl_->sequences;
  }
  return out;
}

Cursor Loader::cursor() const {
  return {.sets = impl_->start,
          .sequence = impl_->sequence,
          .sequences = impl_->sequences,
          .stream = impl_->stream};
}

Status Loader::Seek(const Cursor& cursor) {
  TRY(impl_->CheckCursor(cursor));
  impl_->start = impl_->next = cursor.sets;
  impl_->sequence = cursor.sequence;
  impl_->sequences = cursor.sequences;
  TRY(impl_->FillWindow());
  impl_->filled = true;
  if (cursor.sequence > static_cast<int64_t>(impl_->bins.size())) {
    return Error{Code::kInvalid, "the data cursor points past its window"};
  }
  return {};
}

int64_t Loader::tokens() const { return impl_->tokens; }
int64_t Loader::documents() const { return impl_->documents; }
int64_t Loader::vocab_size() const { return impl_->sets.front().vocab_size(); }
const std::string& Loader::tokenizer_hash() const { return impl_->sets.front().tokenizer_hash(); }

double Loader::epochs(int64_t set) const {
  const Cursor::Set& at = impl_->start[static_cast<size_t>(set)];
  return static_cast<double>(at.epoch) +
         static_cast<double>(at.position) /
             static_cast<double>(impl_->sets[static_cast<size_t>(set)].documents());
}

}  // namespace hadal
