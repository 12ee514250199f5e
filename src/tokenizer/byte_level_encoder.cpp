#include "tokenizer/byte_level_encoder.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "llama2zh/base/hash.h"
#include "llama2zh/base/utf8.h"
#include "tokenizer/byte_alphabet.h"

namespace llama2zh {
namespace {

// Ids of short words, the last that fell on each slot: one cache line a slot, 2 MiB in all.
class WordCache {
 public:
  static constexpr size_t kMostBytes = 26, kMostIds = 9;
  struct Slot {
    uint8_t length = 0, count = 0;
    std::array<char, kMostBytes> word;
    std::array<TokenId, kMostIds> ids;
  };
  static_assert(sizeof(Slot) == 64);

  WordCache() : slots_(size_t{1} << 15) {}
  Slot& slot_of(std::string_view word) { return slots_[xxh64(word) & (slots_.size() - 1)]; }
  static bool holds(const Slot& slot, std::string_view word) {
    return slot.length == word.size() &&
           std::memcmp(slot.word.data(), word.data(), word.size()) == 0;
  }
  static void put(Slot& slot, std::string_view word, const std::vector<TokenId>& ids) {
    slot.length = static_cast<uint8_t>(word.size());
    slot.count = static_cast<uint8_t>(ids.size());
    std::copy(word.begin(), word.end(), slot.word.begin());
    std::copy(ids.begin(), ids.end(), slot.ids.begin());
  }

 private:
  std::vector<Slot> slots_;
};

}  // namespace

struct ByteLevelEncoder::Worker {
  WordSplitter::States states;
  WordCache cache;
  std::vector<TokenId> symbols;
};

ByteLevelEncoder::ByteLevelEncoder(ByteLevelFile file, const std::string& where)
    : file_(std::move(file)),
      splitter_(file_.steps, where),
      merges_(file_.merges, file_.tokens, where) {
  if (file_.ignore_merges) {
    for (size_t id = 0; id < file_.tokens.size(); ++id) {
      if (auto bytes = ByteAlphabet::get().bytes_of(file_.tokens[id]))
        whole_words_.emplace(std::move(*bytes), static_cast<TokenId>(id));
    }
  }
  file_.tokens.clear();
  file_.merges = {};
}

ByteLevelEncoder::~ByteLevelEncoder() = default;

std::unique_ptr<ByteLevelEncoder::Worker> ByteLevelEncoder::borrow() const {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto worker = std::move(idle_.back());
      idle_.pop_back();
      return worker;
    }
  }
  auto worker = std::make_unique<Worker>();
  worker->states = splitter_.make_states();
  return worker;
}

void ByteLevelEncoder::encode(std::string_view text, bool dummy_prefix,
                              std::vector<TokenId>& ids) const {
  std::string changed;
  if (file_.normalize_nfc) {
    changed = utf8_nfc(text);
    text = changed;
  }
  if (dummy_prefix && file_.add_prefix_space && !text.starts_with(' ')) {
    changed = " " + std::string(text);
    text = changed;
  }
  std::unique_ptr<Worker> worker = borrow();
  splitter_.split(text, worker->states,
                  [&](std::string_view word) { encode_word(word, *worker, ids); });
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(worker));
}

void ByteLevelEncoder::encode_word(std::string_view word, Worker& worker,
                                   std::vector<TokenId>& ids) const {
  if (word.size() > WordCache::kMostBytes) {
    find_symbols(word, worker.symbols);
    ids.insert(ids.end(), worker.symbols.begin(), worker.symbols.end());
    return;
  }
  WordCache::Slot& slot = worker.cache.slot_of(word);
  if (!WordCache::holds(slot, word)) {
    find_symbols(word, worker.symbols);
    if (worker.symbols.size() > WordCache::kMostIds) {
      ids.insert(ids.end(), worker.symbols.begin(), worker.symbols.end());
      return;
    }
    WordCache::put(slot, word, worker.symbols);
  }
  ids.insert(ids.end(), slot.ids.begin(), slot.ids.begin() + slot.count);
}

void ByteLevelEncoder::find_symbols(std::string_view word, std::vector<TokenId>& symbols) const {
  symbols.clear();
  if (file_.ignore_merges) {
    const auto whole = whole_words_.find(std::string(word));
    if (whole != whole_words_.end()) return symbols.push_back(whole->second);
  }
  bool was_unknown = false;
  for (const char byte : word) {
    TokenId id = file_.byte_ids[static_cast<uint8_t>(byte)];
    const bool unknown = id < 0;
    const bool skip = unknown && (!file_.unk || (file_.fuse_unk && was_unknown));
    was_unknown = unknown;
    if (skip) continue;
    symbols.push_back(unknown ? *file_.unk : id);
  }
  merges_.apply(symbols);
}

}  // namespace llama2zh
