// Byte-pair encoding (Sennrich et al. 2016). Short words, which nearly all are, look for the best pair anew after each merge;
// long ones keep the pairs in a heap and the symbols in a linked list, as tokenizers' Word::merge_all does, so that a word of a
// megabyte does not take the square of it.
#include "tokenizer/merge_table.h"

#include <algorithm>
#include <array>
#include <bit>
#include <queue>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr size_t kShortWord = 48;  // symbols

}  // namespace

MergeTable::MergeTable(const std::vector<ByteLevelFile::Merge>& merges,
                       const std::vector<std::string>& tokens, const std::string& where) {
  const size_t size = std::bit_ceil(2 * merges.size() + 2);
  slots_.resize(size);
  shift_ = 64 - std::countr_zero(size);
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& merge = merges[rank];
    const uint64_t pair = pair_of(merge.left, merge.right);
    Slot& slot = slots_[place_of(pair)];
    if (slot.pair != kNoPair) {
      fail_format(where,
                  cat("\"merges\" lists \"", tokens[static_cast<size_t>(merge.left)], " ",
                      tokens[static_cast<size_t>(merge.right)], "\" twice, as elements ", slot.rank,
                      " and ", rank),
                  "Correct the file, or fetch it again");
    }
    slot = {pair, static_cast<int32_t>(rank), merge.result};
  }
}

size_t MergeTable::place_of(uint64_t pair) const {
  size_t place = (pair * 0x9E3779B97F4A7C15u) >> shift_;
  while (slots_[place].pair != pair && slots_[place].pair != kNoPair)
    place = (place + 1) & (slots_.size() - 1);
  return place;
}

void MergeTable::apply(std::vector<TokenId>& symbols) const {
  if (symbols.size() < 2) return;
  symbols.size() <= kShortWord ? apply_short(symbols) : apply_long(symbols);
}

void MergeTable::apply_short(std::vector<TokenId>& symbols) const {
  size_t count = symbols.size();
  std::array<int32_t, kShortWord> ranks;    // of the pair that starts here
  std::array<TokenId, kShortWord> results;  // what it becomes
  const auto look_up = [&](size_t i) {
    const Slot& slot = find(symbols[i], symbols[i + 1]);
    ranks[i] = slot.rank;
    results[i] = slot.result;
  };
  for (size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    const auto best =
        std::min_element(ranks.begin(), ranks.begin() + static_cast<std::ptrdiff_t>(count - 1));
    if (*best == kNoRank) break;
    const auto i = static_cast<size_t>(best - ranks.begin());
    symbols[i] = results[i];
    for (size_t j = i + 1; j + 1 < count; ++j) {
      symbols[j] = symbols[j + 1];
      ranks[j] = ranks[j + 1];
      results[j] = results[j + 1];
    }
    --count;
    if (i > 0) look_up(i - 1);
    if (i + 1 < count) look_up(i);
  }
  symbols.resize(count);
}

void MergeTable::apply_long(std::vector<TokenId>& symbols) const {
  constexpr int32_t kNone = -1;
  struct Node {
    TokenId id;
    int32_t before, behind;
  };
  struct Pair {
    int32_t rank, at;
    TokenId left, right, result;  // stale once the symbols there are others
    bool operator<(const Pair& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  const auto count = static_cast<int32_t>(symbols.size());
  std::vector<Node> nodes(symbols.size());
  std::priority_queue<Pair> queue;
  const auto node = [&](int32_t i) -> Node& { return nodes[static_cast<size_t>(i)]; };
  const auto offer = [&](int32_t at) {
    if (at == kNone || node(at).behind == kNone) return;
    const TokenId left = node(at).id, right = node(node(at).behind).id;
    const Slot& slot = find(left, right);
    if (slot.rank != kNoRank) queue.push({slot.rank, at, left, right, slot.result});
  };
  for (int32_t i = 0; i < count; ++i)
    node(i) = {symbols[static_cast<size_t>(i)], i - 1, i + 1 < count ? i + 1 : kNone};
  for (int32_t i = 0; i + 1 < count; ++i) offer(i);
  while (!queue.empty()) {
    const Pair pair = queue.top();
    queue.pop();
    const int32_t behind = node(pair.at).behind;
    if (node(pair.at).id != pair.left || behind == kNone || node(behind).id != pair.right) continue;
    node(pair.at) = {pair.result, node(pair.at).before, node(behind).behind};
    if (node(behind).behind != kNone) node(node(behind).behind).before = pair.at;
    node(behind).id = kNone;  // no token
    offer(node(pair.at).before);
    offer(pair.at);
  }
  symbols.clear();
  for (int32_t i = 0; i != kNone; i = node(i).behind) symbols.push_back(node(i).id);
}

}  // namespace llama2zh
