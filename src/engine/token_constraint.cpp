// Tokens are tried in the order of their bytes, so that each costs only the bytes in which it differs
// from the one before.
#include "engine/token_constraint.h"

#include <algorithm>
#include <limits>

namespace llama2zh {
namespace {

constexpr size_t kMostMasks = 2048;
constexpr size_t kMostConstraints = 64;

}  // namespace

TokenBytes::TokenBytes(const Tokenizer& tokenizer) {
  bytes.resize(static_cast<size_t>(tokenizer.vocab_size()));
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto id = static_cast<TokenId>(i);
    if (tokenizer.is_special(id)) continue;
    bytes[i] = tokenizer.bytes_of(id);
    if (!bytes[i].empty()) entries.push_back({bytes[i], id, 0});
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.bytes < b.bytes; });
  for (size_t i = 1; i < entries.size(); ++i) {
    const std::string &a = entries[i - 1].bytes, &b = entries[i].bytes;
    const auto differ = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
    entries[i].shared = static_cast<size_t>(differ.first - a.begin());
  }
}

TokenConstraint::TokenConstraint(Grammar grammar, std::shared_ptr<const TokenBytes> tokens)
    : matcher_(std::move(grammar)), tokens_(std::move(tokens)) {}

const TokenConstraint::Words& TokenConstraint::allowed(Position position) {
  const auto known = masks_.find(position);
  if (known != masks_.end()) return known->second;
  if (masks_.size() >= kMostMasks) masks_.clear();
  Words words((tokens_->bytes.size() + 63) / 64);
  std::vector<Position> path = {position};  // behind each byte of the entry
  for (const TokenBytes::Entry& entry : tokens_->entries) {
    path.resize(std::min(path.size(), entry.shared + 1));
    while (path.size() <= entry.bytes.size() && path.back() != GrammarMatcher::kNowhere)
      path.push_back(
          matcher_.advance(path.back(), static_cast<uint8_t>(entry.bytes[path.size() - 1])));
    if (path.size() <= entry.bytes.size() || path.back() == GrammarMatcher::kNowhere) continue;
    words[static_cast<size_t>(entry.id) / 64] |= uint64_t{1} << (entry.id % 64);
  }
  return masks_.emplace(position, std::move(words)).first->second;
}

void TokenConstraint::mask(Position position, at::Tensor& logits,
                           const std::vector<TokenId>& ends) {
  constexpr float kForbidden = -std::numeric_limits<float>::infinity();
  const std::lock_guard lock(mutex_);
  const bool may_end = matcher_.accepts(position);
  float* const values = logits.data_ptr<float>();
  const auto count = static_cast<size_t>(logits.numel());
  std::vector<std::pair<TokenId, float>> kept;
  for (const TokenId id : ends)
    if (static_cast<size_t>(id) < count) kept.emplace_back(id, may_end ? values[id] : kForbidden);
  const Words& words = allowed(position);
  for (size_t id = 0; id < count; ++id) {
    const bool known = id / 64 < words.size();
    if (!known || ((words[id / 64] >> (id % 64)) & 1) == 0) values[id] = kForbidden;
  }
  for (const auto& [id, value] : kept) values[id] = value;
}

TokenConstraint::Position TokenConstraint::advance(Position position, TokenId id) {
  const std::lock_guard lock(mutex_);
  const auto place = static_cast<size_t>(id);
  if (place >= tokens_->bytes.size() || tokens_->bytes[place].empty())
    return GrammarMatcher::kNowhere;
  return matcher_.advance(position, tokens_->bytes[place]);
}

bool TokenConstraint::is_complete(Position position) {
  const std::lock_guard lock(mutex_);
  return !matcher_.goes_on(position);
}

bool TokenConstraint::is_full() {
  const std::lock_guard lock(mutex_);
  return matcher_.is_full();
}

std::shared_ptr<TokenConstraint> ConstraintCache::get(const Constraint& constraint) {
  {
    const std::lock_guard lock(mutex_);
    const auto known = known_.find(constraint);
    if (known != known_.end() && !known->second->is_full()) return known->second;
  }
  Grammar grammar = constraint_grammar(constraint);  // may take a while: others need not wait
  const std::lock_guard lock(mutex_);
  if (!tokens_) tokens_ = std::make_shared<const TokenBytes>(*tokenizer_);
  if (known_.size() >= kMostConstraints) known_.clear();
  auto made = std::make_shared<TokenConstraint>(std::move(grammar), tokens_);
  return known_[constraint] = made;
}

}  // namespace llama2zh
