// A prompt is encoded as a whole each time something is dropped, so that what is measured is what the
// model gets; CMMLU's own program adds up the pieces' lengths, BOS of each included.
#include <algorithm>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/engine/conversation.h"
#include "llama2zh/eval/exam_run.h"

namespace llama2zh {
namespace {

using Shots = std::vector<const ExamQuestion*>;

void encode_exam(const Tokenizer& tokenizer, const ExamOptions& options, const ExamSubject& subject,
                 const Shots& shots, const ExamQuestion& question, bool header, FittedExam& out) {
  if (options.chat == nullptr) {
    out.text = exam_text(options.protocol, subject, shots, question, header);
    out.ids = raw_prompt(tokenizer, out.text);
    return;
  }
  const std::vector<Message> messages =
      exam_messages(options.protocol, subject, shots, question, header);
  out.text.clear();
  for (const Message& message : messages) out.text += message.content + '\0';
  out.ids = options.chat->encode_prompt(tokenizer, messages);
}

void drop_longest(const Tokenizer& tokenizer, const ExamProtocol& protocol, Shots& shots) {
  std::vector<size_t> lengths;
  for (const ExamQuestion* shot : shots)
    lengths.push_back(tokenizer.encode(exam_shot(protocol, *shot)).size());
  shots.erase(shots.begin() + (std::max_element(lengths.begin(), lengths.end()) - lengths.begin()));
}

// A special token of the beginning stays where there is one.
void cut_beginning(const Tokenizer& tokenizer, std::vector<TokenId>& ids, int64_t room) {
  const bool bos = tokenizer.add_bos() && ids.front() == tokenizer.bos_id() && room > 1;
  ids.erase(ids.begin() + (bos ? 1 : 0), ids.end() - (room - (bos ? 1 : 0)));
}

}  // namespace

FittedExam fit_exam(const Tokenizer& tokenizer, const ExamOptions& options,
                    const ExamSubject& subject, const ExamQuestion& question, int64_t room) {
  Shots shots;
  for (const ExamQuestion& shot : subject.shots) shots.push_back(&shot);
  FittedExam out;
  bool header = true;
  while (true) {
    encode_exam(tokenizer, options, subject, shots, question, header, out);
    if (std::ssize(out.ids) <= room || options.protocol.harness) return out;
    if (!shots.empty()) {
      drop_longest(tokenizer, options.protocol, shots);
      ++out.dropped_shots;
    } else if (header) {
      header = false;
    } else {
      break;
    }
  }
  cut_beginning(tokenizer, out.ids, room);
  out.cut = true;
  return out;
}

std::vector<TokenId> letter_tokens(const Tokenizer& tokenizer, const std::string& letters) {
  std::vector<TokenId> ids;
  const auto add = [&](bool word) {
    for (const char* letter : {"A", "B", "C", "D"}) {
      const std::vector<TokenId> pieces =
          word ? tokenizer.encode(letter) : tokenizer.encode_continuation(letter);
      // Of a word the first piece, whatever follows, as the program takes it.
      if (pieces.empty() || (!word && pieces.size() > 1)) {
        fail_usage("letters", cat("the tokenizer has no piece \"", letter, "\""),
                   "such a vocabulary can answer by --score extract only");
      }
      ids.push_back(pieces.front());
    }
  };
  if (letters != "bare") add(true);
  if (letters != "word") add(false);
  for (size_t first = 0; first < ids.size(); first += 4) {
    for (size_t i = 1; i < 4; ++i) {
      if (ids[first + i] != ids[first]) continue;
      fail_usage("letters", "the tokenizer writes A, B, C and D with the same first piece",
                 "try --letters bare, or --score extract");
    }
  }
  return ids;
}

}  // namespace llama2zh
