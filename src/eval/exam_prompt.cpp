// Every space, colon and end of line is the protocol's own: see exam_prompt.h for its sources.
#include "llama2zh/eval/exam_prompt.h"

#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

constexpr const char* kThinking = "让我们一步一步思考，\n";

std::string choices_of(const ExamQuestion& question) {
  std::string out;
  for (size_t i = 0; i < question.choices.size(); ++i)
    out += cat("\n", static_cast<char>('A' + i), ". ", question.choices[i]);
  return out;
}

// The question with its options, up to where the answer is asked for.
std::string asked(const ExamProtocol& protocol, const ExamQuestion& question) {
  if (protocol.harness) return cat(trim(question.question), choices_of(question), "\n答案：");
  if (protocol.suite == ExamSuite::kCmmlu)
    return cat("题目：", question.question, choices_of(question));
  return cat(question.question, choices_of(question), "\n答案：");
}

std::string ceval_answer(const ExamProtocol& protocol, const ExamQuestion& shot) {
  if (!protocol.cot) return {shot.answer};
  return cat(kThinking, shot.explanation, "\n所以答案是", shot.answer, "。");
}

}  // namespace

std::string exam_header(const ExamProtocol& protocol, const ExamSubject& subject) {
  if (protocol.suite == ExamSuite::kCeval) {
    return cat("以下是中国关于", subject.title, protocol.harness ? "" : "考试",
               "的单项选择题，请选出其中的正确答案。\n\n");
  }
  return cat("以下是关于", subject.title, "的单项选择题，",
             protocol.cot ? "请分析并选出正确答案。\n\n" : "请直接给出正确答案的选项。\n\n");
}

std::string exam_shot(const ExamProtocol& protocol, const ExamQuestion& shot) {
  if (protocol.harness) return cat(asked(protocol, shot), " ", shot.answer, "\n\n");
  if (protocol.suite == ExamSuite::kCeval)
    return cat(asked(protocol, shot), ceval_answer(protocol, shot), "\n\n");
  // CMMLU's shots have no explanations, and its gen_prompt() gives them in this form under cot too.
  return cat(asked(protocol, shot), "\n答案是：", shot.answer, "\n\n");
}

std::string exam_question(const ExamProtocol& protocol, const ExamQuestion& question) {
  std::string text = asked(protocol, question);
  if (protocol.harness) return text;
  if (protocol.suite == ExamSuite::kCmmlu)
    return text + (protocol.cot ? "\n逐步分析并给出答案选项。" : "\n答案是：");
  return protocol.cot ? cat(text, kThinking, "1.") : text;
}

std::string exam_text(const ExamProtocol& protocol, const ExamSubject& subject,
                      std::span<const ExamQuestion* const> shots, const ExamQuestion& question,
                      bool header) {
  std::string text = header ? exam_header(protocol, subject) : "";
  for (const ExamQuestion* shot : shots) text += exam_shot(protocol, *shot);
  return text + exam_question(protocol, question);
}

std::vector<Message> exam_messages(const ExamProtocol& protocol, const ExamSubject& subject,
                                   std::span<const ExamQuestion* const> shots,
                                   const ExamQuestion& question, bool header) {
  if (protocol.suite == ExamSuite::kCmmlu)
    return {{Role::kUser, exam_text(protocol, subject, shots, question, header)}};
  std::vector<Message> messages;
  for (const ExamQuestion* shot : shots) {
    messages.push_back({Role::kUser, asked(protocol, *shot)});
    messages.push_back({Role::kAssistant, ceval_answer(protocol, *shot)});
  }
  messages.push_back({Role::kUser, asked(protocol, question)});
  if (header) messages.front().content.insert(0, exam_header(protocol, subject));
  return messages;
}

}  // namespace llama2zh
