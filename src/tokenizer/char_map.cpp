// sentencepiece's precompiled character map: uint32 size of a darts-clone double array in bytes, the array, then the
// replacement texts, each ended by NUL. The array is a trie: a unit holds a label (bits 0-7), a leaf mark (bit 8) and an
// offset (bits 10-30, shifted by 8 more if bit 9 is set); the child for byte c of the node at p is at p ^ offset(p) ^ c if
// its label is c; a node with the leaf mark has its value (31 bits, an offset into the texts) at p ^ offset(p).
// https://github.com/s-yata/darts-clone. The library follows these without a bounds check.
#include "tokenizer/char_map.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "llama2zh/base/error.h"

namespace llama2zh {
namespace {

uint64_t unit_offset(uint32_t unit) { return uint64_t{unit >> 10} << ((unit & (1U << 9)) >> 6); }
bool unit_has_leaf(uint32_t unit) { return (unit >> 8 & 1U) != 0; }
uint32_t unit_label(uint32_t unit) { return unit & ((1U << 31) | 0xFFU); }

class CharMapCheck {
 public:
  CharMapCheck(std::vector<uint32_t> units, size_t texts, std::string_view where)
      : units_(std::move(units)), texts_(texts), where_(where), seen_(units_.size(), false) {}

  void run() {
    visit(0);
    while (!open_.empty()) {
      const uint64_t node = open_.back();
      open_.pop_back();
      const uint64_t base = node ^ unit_offset(units_[node]);
      // All 256 positions that a byte of text can reach are looked at by the library.
      if ((base | 0xFF) >= units_.size()) fail("a node points outside the trie");
      if (unit_has_leaf(units_[node]) && (units_[base] & 0x7FFFFFFFU) >= texts_) {
        fail("a replacement lies outside the texts");
      }
      for (uint32_t label = 1; label < 256; ++label) {
        if (unit_label(units_[base ^ label]) == label) visit(base ^ label);
      }
    }
  }

 private:
  void visit(uint64_t node) {
    if (seen_[node]) return;
    seen_[node] = true;
    open_.push_back(node);
  }
  [[noreturn]] void fail(std::string_view problem) const {
    fail_format(where_, std::string("the normalizer's character map is damaged: ").append(problem),
                "Fetch the file again");
  }

  std::vector<uint32_t> units_;
  size_t texts_;
  std::string_view where_;
  std::vector<bool> seen_;
  std::vector<uint64_t> open_;
};

}  // namespace

void check_char_map(std::string_view blob, std::string_view where) {
  if (blob.empty()) return;
  uint32_t trie_bytes = 0;
  if (blob.size() > sizeof(trie_bytes)) std::memcpy(&trie_bytes, blob.data(), sizeof(trie_bytes));
  const std::string_view rest = blob.substr(std::min(blob.size(), sizeof(trie_bytes)));
  if (trie_bytes == 0 || trie_bytes % sizeof(uint32_t) != 0 || trie_bytes >= rest.size() ||
      blob.back() != '\0') {
    fail_format(where, "the normalizer's character map is damaged: its sizes do not fit",
                "Fetch the file again");
  }
  std::vector<uint32_t> units(trie_bytes / sizeof(uint32_t));
  std::memcpy(units.data(), rest.data(), trie_bytes);
  CharMapCheck(std::move(units), rest.size() - trie_bytes, where).run();
}

}  // namespace llama2zh
