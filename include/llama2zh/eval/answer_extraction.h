#pragma once

#include <array>
#include <string>
#include <string_view>

#include "llama2zh/eval/exam.h"

namespace llama2zh {

// The letter that a generated answer chooses, by the suite's own rules; 0 where they find none.
//   C-Eval  evaluators/chatglm.py: the last 所以答案是X。, then phrases such as 答案是X in a fixed
//           order, then the only letter, then the only option whose text the answer holds.
//   CMMLU   src/mp_utils.py, extract_choice(): a first letter, then phrases in a fixed order, then
//           what is called right last, then the only letter.
// `answer`: UTF-8, without the spaces around it.
char extract_answer(ExamSuite suite, std::string_view answer,
                    const std::array<std::string, 4>& choices);

}  // namespace llama2zh
