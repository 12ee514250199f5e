#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "llama2zh/engine/constraint.h"
#include "llama2zh/engine/grammar.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// The bytes of a vocabulary's tokens in their order, without special tokens and such as add nothing.
struct TokenBytes {
  explicit TokenBytes(const Tokenizer& tokenizer);
  struct Entry {
    std::string bytes;
    TokenId id;
    size_t shared;  // bytes at the beginning that the entry before has too
  };
  std::vector<Entry> entries;
  std::vector<std::string> bytes;  // by id; "" for those that are never allowed
};

// Which tokens may come next so that the text stays one of a grammar. Shared by all requests of one
// grammar; thread-safe.
class TokenConstraint {
 public:
  using Position = GrammarMatcher::Position;
  TokenConstraint(Grammar grammar, std::shared_ptr<const TokenBytes> tokens);

  Position start() const { return matcher_.start(); }
  // Tokens that are forbidden at this position become -inf in logits [V]; of `ends` where the text
  // may not end.
  void mask(Position position, at::Tensor& logits, const std::vector<TokenId>& ends);
  Position advance(Position position, TokenId id);  // kNowhere if it is forbidden
  bool is_complete(Position position);              // nothing can follow any more
  bool is_full();  // it remembers so much that other texts than those it has met may be errors

 private:
  using Words = std::vector<uint64_t>;  // a bit for each id
  const Words& allowed(Position position);

  std::mutex mutex_;  // guards what follows
  GrammarMatcher matcher_;
  std::shared_ptr<const TokenBytes> tokens_;
  std::unordered_map<Position, Words> masks_;
};

// Constraints by what they say, kept for requests that come with the same.
class ConstraintCache {
 public:
  explicit ConstraintCache(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  std::shared_ptr<TokenConstraint> get(const Constraint& constraint);

 private:
  const Tokenizer* tokenizer_;
  std::mutex mutex_;
  std::shared_ptr<const TokenBytes> tokens_;  // made when first needed
  std::map<Constraint, std::shared_ptr<TokenConstraint>> known_;
};

}  // namespace llama2zh
