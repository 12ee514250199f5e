#pragma once

#include <string>
#include <vector>

#include "llama2zh/tokenizer/chat_template.h"

namespace llama2zh {

// One element of a turn's form.
struct ChatTemplate::Part {
  enum class Kind {
    kText,     // as it stands
    kMark,     // the token of that name if the tokenizer has one, else its text
    kContent,  // the message (in `system`: the system text)
    kSystem,   // in `user`: the parts of `system`, at the first turn and if there is a system text
    kBos,
    kEos,
  };
  Kind kind;
  std::string text = {};
  bool supervised = true;  // counts in an assistant's turn
};

struct ChatTemplate::Forms {
  // Which pieces of text get the dummy prefix "▁".
  enum class Cut {
    kTurns,  // each turn is one call of Hugging Face's tokenizer: at its start yes, behind a special token if legacy
    kTexts,  // each text between special tokens is encoded on its own, always with it
    kWhole,  // the dialogue is one call: at its start yes, behind a special token if legacy, else not
  };
  enum class Strip {
    kNone,
    kContents,  // white space around messages
    kTurn,      // white space around the user's turn with its system text in front (Meta)
  };
  Cut cut = Cut::kTurns;
  Strip strip = Strip::kNone;
  bool strip_system = false;      // white space around the system text
  bool bos_first = false;         // BOS before all turns, if the tokenizer adds one
  std::vector<Part> system = {};  // empty: the template has no system role
  std::vector<Part> user = {};
  std::vector<Part> opening = {};  // what stands before an answer: ends the prompt in generation
  std::vector<Part> assistant = {};
};

}  // namespace llama2zh
