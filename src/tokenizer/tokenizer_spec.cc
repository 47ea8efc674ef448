// Tokenizers from GGUF metadata, and back.
#include <algorithm>
#include <utility>

#include "tokenizer/spm.h"
#include "tokenizer/tokenizer_impl.h"
#include "tokenizer/unicode.h"

namespace hadal {
namespace {

using internal::AddedToken;
using Impl = Tokenizer::Impl;

Error Bad(std::string message) { return {Code::kInvalid, "tokenizer: " + std::move(message)}; }

Status CheckSpec(const TokenizerSpec& spec) {
  const size_t n = spec.tokens.size();
  if (n == 0) return Bad("the vocabulary is empty");
  if (n > internal::kMaxVocabulary) {
    return Error{Code::kLimit, "tokenizer: " + std::to_string(n) + " tokens, at most " +
                                   std::to_string(internal::kMaxVocabulary) + " are accepted"};
  }
  if (!spec.types.empty() && spec.types.size() != n) {
    return Bad(std::to_string(spec.types.size()) + " token types for " + std::to_string(n) +
               " tokens");
  }
  const bool spm = spec.model == TokenizerSpec::Model::kSpm;
  if (spm ? spec.scores.size() != n : !spec.scores.empty() && spec.scores.size() != n) {
    return Bad(std::to_string(spec.scores.size()) + " token scores for " + std::to_string(n) +
               " tokens");
  }
  for (size_t i = 0; i < spec.types.size(); ++i) {
    if (spec.types[i] < 0 || spec.types[i] > Impl::kByte) {
      return Bad("token " + std::to_string(i) + " has type " + std::to_string(spec.types[i]) +
                 ", known are 1 to 6");
    }
  }
  const std::pair<const char*, std::optional<TokenId>> named[] = {
      {"bos", spec.bos}, {"eos", spec.eos}, {"unknown", spec.unknown}, {"pad", spec.pad}};
  for (const auto& [name, id] : named) {
    if (id && (*id < 0 || static_cast<size_t>(*id) >= n)) {
      return Bad(std::string(name) + " token id " + std::to_string(*id) + " is outside [0, " +
                 std::to_string(n) + ")");
    }
  }
  return {};
}

std::string ShownSpm(const std::string& name, uint8_t type) {
  if (type == Impl::kControl || type == Impl::kUnknown) return name;
  if (type == Impl::kByte) {
    const int byte = internal::ByteOfName(name);
    if (byte >= 0) return std::string(1, static_cast<char>(byte));
  }
  std::string shown;
  std::string_view rest = name;
  for (size_t at = rest.find(internal::kSpaceMark); at != std::string_view::npos;
       at = rest.find(internal::kSpaceMark)) {
    shown += rest.substr(0, at);
    shown += ' ';
    rest.remove_prefix(at + internal::kSpaceMark.size());
  }
  shown += rest;
  return shown;
}

void AddWrittenTokens(Impl* impl, const std::vector<std::string>& tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const uint8_t type = impl->types[i];
    if (type != Impl::kControl && type != Impl::kUser) continue;
    if (tokens[i].empty() || tokens[i].size() > internal::kMaxAddedTokenBytes) continue;
    impl->added.push_back(
        {.text = tokens[i], .id = static_cast<TokenId>(i), .special = type == Impl::kControl});
  }
}

struct Merge {
  TokenId left, right, whole;
};

// Looks merges up by their bytes in the encoder's own table. False when that does not find all:
// then they are looked up by name, which also tells what is wrong. distinct: no two text tokens
// are equal.
bool FindMerges(const std::vector<std::string>& lines, const Impl& impl, bool distinct,
                std::vector<Merge>* merges) {
  merges->reserve(lines.size());
  std::string bytes;
  size_t next = 0;  // results mostly stand in the vocabulary in the order of their merges
  for (const std::string& line : lines) {
    const size_t space = line.find(' ', 1);
    if (space == std::string::npos) return false;
    const std::string_view view = line;
    if (!internal::FromStandIns(view.substr(0, space), &bytes)) return false;
    const size_t cut = bytes.size();
    std::string_view right = view.substr(space + 1);
    if (!internal::AppendFromStandIns(right, &bytes)) return false;
    const std::string_view all = bytes;
    Merge m{impl.bpe->Find(all.substr(0, cut)), impl.bpe->Find(all.substr(cut)), -1};
    const bool guessed = distinct && next < impl.pieces.size() &&
                         impl.types[next] == Impl::kNormal && !impl.verbatim[next] &&
                         impl.pieces[next] == all;
    m.whole = guessed ? static_cast<TokenId>(next) : impl.bpe->Find(all);
    if (m.left < 0 || m.right < 0 || m.whole < 0) return false;
    next = static_cast<size_t>(m.whole) + 1;
    merges->push_back(m);
  }
  return true;
}

Status AddNamedMerges(const TokenizerSpec& spec, Impl* impl) {
  internal::StringTable ids(spec.tokens.size());
  for (size_t i = 0; i < spec.tokens.size(); ++i) {
    ids.Insert(spec.tokens[i], static_cast<TokenId>(i));
  }
  std::vector<internal::MergeRule> rules;
  rules.reserve(spec.merges.size());
  for (const std::string& merge : spec.merges) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string::npos) {
      return Bad("merge " + std::to_string(rules.size()) + " \"" + merge.substr(0, 60) +
                 "\" is not two tokens with a space between");
    }
    rules.push_back(
        {std::string_view(merge).substr(0, space), std::string_view(merge).substr(space + 1)});
  }
  return internal::AddMerges(rules, ids, impl);
}

Status MakeByteLevel(const TokenizerSpec& spec, Impl* impl) {
  impl->pre = TRY(internal::PreTokenizer::FromName(spec.pre));
  const size_t n = spec.tokens.size();
  impl->pieces.resize(n);
  for (size_t i = 0; i < n; ++i) {
    const bool text = impl->types[i] == Impl::kNormal || impl->types[i] == Impl::kByte;
    impl->verbatim[i] = !text || !internal::FromStandIns(spec.tokens[i], &impl->pieces[i]);
    if (impl->verbatim[i]) impl->pieces[i] = spec.tokens[i];
  }
  internal::BpeModel::Options options;
  options.byte_level = true;
  // No unknown token: writers name any token there, often the end of text, which text may not give.
  options.ignore_merges = internal::PreTokenizer::MergesIgnored(spec.pre);
  impl->bpe.emplace(options, static_cast<TokenId>(n));
  const bool distinct = internal::AddTextTokens(impl).size() == impl->bpe->token_count();
  std::vector<Merge> merges;
  if (!FindMerges(spec.merges, *impl, distinct, &merges)) return AddNamedMerges(spec, impl);
  impl->bpe->ReserveMerges(merges.size());
  impl->merges.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto [left, right, whole] = merges[i];
    if (impl->bpe->AddMerge(left, right, static_cast<uint32_t>(i), whole)) {
      impl->merges.emplace_back(left, right);
    }
  }
  return {};
}

Status MakeSpm(const TokenizerSpec& spec, Impl* impl) {
  const size_t n = spec.tokens.size();
  impl->names = spec.tokens;
  impl->pieces.resize(n);
  for (size_t i = 0; i < n; ++i) impl->pieces[i] = ShownSpm(spec.tokens[i], impl->types[i]);
  internal::BpeModel::Options options;
  options.byte_level = false;
  options.unknown = spec.unknown;
  impl->bpe.emplace(options, static_cast<TokenId>(n));
  const std::vector<TokenId> normal = internal::AddTextTokens(impl);
  const Status status = internal::AddScoreMerges(spec.tokens, spec.scores, normal, &*impl->bpe);
  if (!status.ok()) return status;
  using Step = internal::Normalizer::Step;
  const std::string mark(internal::kSpaceMark);
  if (spec.add_space_prefix) {
    impl->normalizer.AddStep({.kind = Step::Kind::kPrepend, .literal = mark});
    impl->strip_first_space = true;
  }
  impl->normalizer.AddStep({.kind = Step::Kind::kReplace, .literal = " ", .content = mark});
  impl->cuts.emplace();
  for (const TokenId id : normal) impl->cuts->AddMerged(spec.tokens[static_cast<size_t>(id)]);
  return {};
}

// SentencePiece scores that lead to the merges of a character-level model.
std::vector<float> ScoresOfMerges(const Impl& impl, const internal::StringTable& ids) {
  std::vector<float> scores(impl.pieces.size(), 0.0f);
  std::vector<bool> known(impl.pieces.size(), false);
  for (size_t i = 0; i < impl.merges.size(); ++i) {
    const auto [a, b] = impl.merges[i];
    const auto& names = impl.names;
    const TokenId id = ids.Find(names[static_cast<size_t>(a)] + names[static_cast<size_t>(b)]);
    if (id < 0 || known[static_cast<size_t>(id)]) continue;
    known[static_cast<size_t>(id)] = true;
    scores[static_cast<size_t>(id)] = -static_cast<float>(i) - 1.0f;
  }
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!known[i] && impl.types[i] == Impl::kNormal) {
      scores[i] = -static_cast<float>(impl.merges.size() + i) - 1.0f;
    }
  }
  return scores;
}

}  // namespace

Result<Tokenizer> Tokenizer::FromSpec(TokenizerSpec spec) {
  const Status checked = CheckSpec(spec);
  if (!checked.ok()) return checked.error();
  auto impl = std::make_unique<Impl>();
  impl->model = spec.model;
  impl->types.resize(spec.tokens.size(), Impl::kNormal);
  impl->verbatim.resize(spec.tokens.size());
  for (size_t i = 0; i < spec.types.size(); ++i) {
    // Type 0 is "undefined" in some files and means plain text there.
    impl->types[i] = static_cast<uint8_t>(spec.types[i] == 0 ? +Impl::kNormal : spec.types[i]);
  }
  impl->bos = spec.bos;
  impl->eos = spec.eos;
  impl->unknown = spec.unknown;
  impl->pad = spec.pad;
  impl->add_bos = spec.add_bos;
  impl->add_eos = spec.add_eos;
  impl->add_space_prefix = spec.add_space_prefix;
  impl->pre_name = spec.pre;
  const bool spm = spec.model == TokenizerSpec::Model::kSpm;
  const Status made = spm ? MakeSpm(spec, impl.get()) : MakeByteLevel(spec, impl.get());
  if (!made.ok()) return made.error();
  impl->bpe->Finish();
  AddWrittenTokens(impl.get(), spec.tokens);
  impl->scores = std::move(spec.scores);
  impl->Index();
  return Tokenizer(std::move(impl));
}

TokenizerSpec Tokenizer::ToSpec() const {
  TokenizerSpec spec;
  spec.model = impl_->model;
  spec.pre = impl_->pre_name;
  spec.bos = impl_->bos;
  spec.eos = impl_->eos;
  spec.unknown = impl_->unknown;
  spec.pad = impl_->pad;
  spec.add_bos = impl_->add_bos;
  spec.add_eos = impl_->add_eos;
  spec.add_space_prefix = impl_->add_space_prefix;
  spec.types.assign(impl_->types.begin(), impl_->types.end());
  const size_t n = impl_->pieces.size();
  const bool spm = spec.model == TokenizerSpec::Model::kSpm;
  internal::StringTable ids(n);
  for (size_t i = 0; i < n; ++i) {
    if (!impl_->names.empty() && !impl_->names[i].empty()) {
      spec.tokens.push_back(impl_->names[i]);
    } else if (impl_->pieces[i].empty()) {
      spec.tokens.push_back("[PAD" + std::to_string(i) + "]");
    } else {
      spec.tokens.push_back(impl_->verbatim[i] || spm ? impl_->pieces[i]
                                                      : internal::ToStandIns(impl_->pieces[i]));
    }
    ids.Insert(spec.tokens.back(), static_cast<TokenId>(i));
  }
  if (!spm) {
    for (const auto& [a, b] : impl_->merges) {
      spec.merges.push_back(spec.tokens[static_cast<size_t>(a)] + " " +
                            spec.tokens[static_cast<size_t>(b)]);
    }
    spec.scores = impl_->scores;
  } else {
    spec.scores = impl_->scores.empty() ? ScoresOfMerges(*impl_, ids) : impl_->scores;
  }
  return spec;
}

}  // namespace hadal
