#pragma once

#include <span>
#include <string>
#include <vector>

#include "llama2zh/eval/exam.h"
#include "llama2zh/tokenizer/chat_template.h"

namespace llama2zh {

// How a question is put. Numbers of different protocols can't be compared.
//   official  the suite's own: C-Eval code/evaluator_series/evaluators/{llama,chatglm,chatgpt}.py,
//             CMMLU src/mp_utils.py
//   harness   lm-evaluation-harness 0.4.13, tasks ceval-valid_* and cmmlu_*
struct ExamProtocol {
  ExamSuite suite = ExamSuite::kCeval;
  bool harness = false;
  bool cot = false;  // chain of thought; official only
};

// The pieces of a prompt without a chat template; all of them joined are the prompt.
std::string exam_header(const ExamProtocol& protocol, const ExamSubject& subject);
std::string exam_shot(const ExamProtocol& protocol, const ExamQuestion& shot);
std::string exam_question(const ExamProtocol& protocol, const ExamQuestion& question);

// The same as messages. C-Eval: the header before the first question, each shot a turn of its own (as
// its chatglm.py); CMMLU: the whole prompt as one message (as its chat models' programs). Without
// `header` the questions alone.
std::vector<Message> exam_messages(const ExamProtocol& protocol, const ExamSubject& subject,
                                   std::span<const ExamQuestion* const> shots,
                                   const ExamQuestion& question, bool header);
// And as text.
std::string exam_text(const ExamProtocol& protocol, const ExamSubject& subject,
                      std::span<const ExamQuestion* const> shots, const ExamQuestion& question,
                      bool header);

}  // namespace llama2zh
