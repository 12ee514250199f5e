#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/data/loader.h"
#include "llama2zh/tokenizer/chat_template.h"

namespace llama2zh {

// Two answers to one dialogue, of which the first is preferred.
struct PreferencePair {
  std::vector<Message> dialogue;  // ends with the user's turn
  std::string chosen, rejected;
};

// One preference row (data.format "preference"); kData names `where`. "chosen" and "rejected" are
// texts, {"from"/"role", "value"/"content"}, or lists of such, of which the last is the answer. The
// dialogue is
//   "conversations" or "messages": turns that end with the question (ShareGPT's, LLaMA-Factory's)
//   "prompt": a text, or turns (TRL's)
//   "instruction" and "input", with "history" (alpaca's)
//   none of them: the turns before the answer in the list "chosen", which "rejected" shares
// "system" as in dialogues.
PreferencePair parse_preference(const json& row, std::string_view where);

// A pair as one row: the chosen sequence, then the rejected one, each the whole dialogue and its
// answer; supervised are the last answers. The first id of each is never supervised, so that the
// border between the two is where, after supervised ids, one is not.
struct EncodedPair {
  std::vector<TokenId> ids;
  std::vector<uint8_t> supervised;
  bool overlong = false;    // was longer than block_size
  int64_t full_length = 0;  // ids of both before they were cut
};
// A pair of more than block_size ids loses the beginnings of its sequences (overlong "keep_last"):
// of the longer one first, then of both, to half a block each; with "drop_row" `ids` are empty then.
// kData if an answer has no id.
EncodedPair encode_preference(const PreferencePair& pair, const ChatTemplate& chat_template,
                              const Tokenizer& tokenizer, int64_t block_size,
                              const std::string& overlong, std::string_view where);

// Gives the two answers of each row boundaries of their own: 2 x rows sequences, chosen and rejected
// in turn. kData if a row is no pair.
void split_pairs(PackedBatch& batch);

}  // namespace llama2zh
