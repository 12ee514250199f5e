#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "llama2zh/engine/session.h"
#include "llama2zh/eval/exam.h"
#include "llama2zh/eval/exam_prompt.h"

namespace llama2zh {

struct ExamOptions {
  ExamProtocol protocol;
  const ChatTemplate* chat = nullptr;  // null: raw
  // Generate an answer and extract the letter; else the likeliest letter is chosen without generating.
  bool extract = false;
  // Which tokens stand for the letters, without the harness, which scores the text " A":
  //   word  the first of the text "A" alone, as C-Eval's llama.py takes it ("▁A" of sentencepiece)
  //   bare  the piece "A", as CMMLU's hf_causal_model.py takes it: what follows "：" in the shots
  //   both  the sum of the two log-probabilities, as Chinese-LLaMA-Alpaca-2 does
  //   auto  the suite's own; both with a chat template
  std::string letters = "auto";
  int64_t max_new_tokens = 512;  // of an answer to extract from
  int64_t seed = 0;              // of CMMLU's guesses
};

struct ExamAnswer {
  char choice = 0;                 // 0: none was found
  bool guessed = false;            // none was found, and the suite's rule is to guess
  std::array<double, 4> scores{};  // log-probabilities of the letters, where nothing is generated
  std::string response;            // what was generated
  int64_t prompt_tokens = 0;
  int64_t dropped_shots = 0;  // for want of context
  bool cut = false;           // even without shots the prompt's beginning had to go
};

struct ExamRun {
  std::vector<std::vector<ExamAnswer>> answers;    // of each subject's questions
  std::string prompts_sha256;                      // of all prompts as text, in order
  int64_t computed_tokens = 0, cached_tokens = 0;  // of prompts
  double seconds = 0;
};

// Puts all questions to the model. A subject's shots are computed once, then kept by the engine's
// prefix cache. What does not fit into the context: official prompts lose their longest shot, as CMMLU's
// gen_prompt() does, then the next, then the header, then their beginning; the harness's lose tokens
// at the beginning, as it does. `on_answer`: after each, with what there is of its subject.
ExamRun run_exam(const LoadedModel& loaded, const std::vector<ExamSubject>& subjects,
                 const ExamOptions& options, const EngineConfig& engine,
                 const std::function<void(const ExamSubject& subject, const ExamQuestion& question,
                                          const ExamAnswer& answer)>& on_answer = {});

// The tokens of A, B, C and D by ExamOptions::letters ("auto" is none here): four, or eight for both.
// kUsage where the vocabulary has no such piece.
std::vector<TokenId> letter_tokens(const Tokenizer& tokenizer, const std::string& letters);

// A prompt that fits. `room`: tokens that it may have.
struct FittedExam {
  std::vector<TokenId> ids;
  std::string text;
  int64_t dropped_shots = 0;
  bool cut = false;
};
FittedExam fit_exam(const Tokenizer& tokenizer, const ExamOptions& options,
                    const ExamSubject& subject, const ExamQuestion& question, int64_t room);

}  // namespace llama2zh
