// Prompts, files, extraction and reports of ceval and cmmlu, on invented questions. The expected texts were
// written down from what C-Eval's and CMMLU's programs and the harness's templates make of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/expect_error.h"
#include "base/temp_folder.h"
#include "eval/exam_test_util.h"
#include "llama2zh/eval/answer_extraction.h"
#include "llama2zh/eval/exam_prompt.h"
#include "llama2zh/eval/exam_report.h"

namespace llama2zh {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Exam : public ::testing::Test {
 protected:
  std::vector<ExamSubject> load(ExamSuite suite, const std::string& split, int64_t shots = 2,
                                const std::vector<std::string>& subjects = {}) {
    ExamSource source{.suite = suite, .split = split, .subjects = subjects, .shots = shots};
    source.folder = folder_.path() / exam_name(suite);
    return load_exam(source);
  }
  std::string text(const ExamProtocol& protocol, const ExamSubject& subject, size_t question) {
    std::vector<const ExamQuestion*> shots;
    for (const ExamQuestion& shot : subject.shots) shots.push_back(&shot);
    return exam_text(protocol, subject, shots, subject.questions[question], true);
  }

  TempFolder folder_;
  std::filesystem::path written_ = testing::write_small_exam(folder_.path());
};

TEST_F(Exam, ReadsTheFiles) {
  const auto subjects = load(ExamSuite::kCeval, "val", 1);
  ASSERT_EQ(subjects.size(), 2u);  // law has no file
  EXPECT_EQ(subjects[0].title, "逻辑学");
  EXPECT_THAT(subjects[0].categories, ElementsAre("Humanities"));
  EXPECT_THAT(subjects[1].categories, ElementsAre("STEM", "Hard"));
  ASSERT_EQ(subjects[0].questions.size(), 3u);
  EXPECT_EQ(subjects[0].questions[1].choices[1], "1.50");
  EXPECT_EQ(subjects[0].questions[1].answer, 'C');
  EXPECT_EQ(subjects[0].shots.size(), 1u);
  EXPECT_EQ(load(ExamSuite::kCeval, "test", 0)[0].questions[1].id, "7");
  EXPECT_EQ(load(ExamSuite::kCeval, "test", 0)[0].questions[1].answer, 0);

  const auto cmmlu = load(ExamSuite::kCmmlu, "test", 0);
  ASSERT_EQ(cmmlu.size(), 2u);
  EXPECT_EQ(cmmlu[0].questions[0].question, "\"曰\"是");
  EXPECT_THAT(cmmlu[0].categories, ElementsAre("Social Science", "China specific"));
  EXPECT_EQ(cmmlu[1].questions[1].choices[3], "银");
  EXPECT_EQ(exam_subjects(ExamSuite::kCmmlu, "").size(), 67u);
}

TEST_F(Exam, SaysWhatIsWrongWithThem) {
  const auto problem = [&](ErrorKind kind, ExamSuite suite, const std::string& split, int64_t shots,
                           const std::vector<std::string>& subjects = {}) {
    return error_text_of(kind, [&] { load(suite, split, shots, subjects); });
  };
  EXPECT_THAT(problem(ErrorKind::kUsage, ExamSuite::kCmmlu, "val", 0), HasSubstr("no \"val\""));
  EXPECT_THAT(problem(ErrorKind::kUsage, ExamSuite::kCeval, "val", 2), HasSubstr("shots: 2"));
  EXPECT_THAT(problem(ErrorKind::kUsage, ExamSuite::kCeval, "val", 0, {"logik"}),
              HasSubstr("did you mean logic"));
  const auto path = folder_.path() / "ceval/val/logic_val.csv";
  write_file_atomic(path, "id,question,A,B,C,D,answer\n0,q,1,2,3,4,E\n");
  EXPECT_THAT(problem(ErrorKind::kData, ExamSuite::kCeval, "val", 0),
              HasSubstr("logic_val.csv:2: its answer is \"E\""));
  write_file_atomic(path, "id,question,A,B,C,answer\n0,q,1,2,3,A\n");
  EXPECT_THAT(problem(ErrorKind::kFormat, ExamSuite::kCeval, "val", 0),
              HasSubstr("no column \"d\""));
  std::filesystem::remove(folder_.path() / "ceval/subject_mapping.json");
  EXPECT_THAT(problem(ErrorKind::kUsage, ExamSuite::kCeval, "val", 0),
              HasSubstr("subject_mapping.json"));
}

TEST_F(Exam, CevalPromptsAreItsPrograms) {
  const ExamSubject logic = load(ExamSuite::kCeval, "val", 2, {"logic"})[0];
  EXPECT_EQ(text({ExamSuite::kCeval}, logic, 1),
            "以下是中国关于逻辑学考试的单项选择题，请选出其中的正确答案。\n\n"
            "甲比乙高，谁矮?____\nA. 甲\nB. 乙\nC. 一样\nD. 都不\n答案：B\n\n"
            "若雨则湿，\n今雨，则____\nA. 湿\nB. 干\nC. 不定，待查\nD. 无\n答案：A\n\n"
            " 二加二是____ \nA. 三\nB. 1.50\nC. 四\nD. 五\n答案：");
  const ExamSubject one = load(ExamSuite::kCeval, "val", 1, {"logic"})[0];
  const ExamProtocol cot{ExamSuite::kCeval, false, true};
  EXPECT_EQ(text(cot, one, 2),
            "以下是中国关于逻辑学考试的单项选择题，请选出其中的正确答案。\n\n"
            "甲比乙高，谁矮?____\nA. 甲\nB. 乙\nC. 一样\nD. 都不\n答案：让我们一步一步思考，\n"
            "1. 甲高则乙矮。\n所以答案是B。\n\n"
            "红花是____\nA. 花\nB. 红\nC. 叶\nD. 根\n答案：让我们一步一步思考，\n1.");
}

TEST_F(Exam, CmmluPromptsAreItsPrograms) {
  const ExamSubject nutrition = load(ExamSuite::kCmmlu, "test", 1, {"nutrition"})[0];
  EXPECT_EQ(text({ExamSuite::kCmmlu}, nutrition, 1),
            "以下是关于营养学的单项选择题，请直接给出正确答案的选项。\n\n"
            "题目：米主要含\nA. 糖类\nB. 铁\nC. 钙\nD. 碘\n答案是：A\n\n"
            "题目：盐含\nA. 钠\nB. 铁\nC. 金\nD. 银\n答案是：");
  EXPECT_EQ(text({ExamSuite::kCmmlu, false, true}, nutrition, 1),
            "以下是关于营养学的单项选择题，请分析并选出正确答案。\n\n"
            "题目：米主要含\nA. 糖类\nB. 铁\nC. 钙\nD. 碘\n答案是：A\n\n"
            "题目：盐含\nA. 钠\nB. 铁\nC. 金\nD. 银\n逐步分析并给出答案选项。");
}

TEST_F(Exam, HarnessPromptsAreItsTemplates) {
  EXPECT_EQ(text({ExamSuite::kCeval, true}, load(ExamSuite::kCeval, "val", 1, {"logic"})[0], 1),
            "以下是中国关于逻辑学的单项选择题，请选出其中的正确答案。\n\n"
            "甲比乙高，谁矮?____\nA. 甲\nB. 乙\nC. 一样\nD. 都不\n答案： B\n\n"
            "二加二是____\nA. 三\nB. 1.50\nC. 四\nD. 五\n答案：");
  EXPECT_EQ(
      text({ExamSuite::kCmmlu, true}, load(ExamSuite::kCmmlu, "test", 1, {"nutrition"})[0], 0),
      "以下是关于营养学的单项选择题，请直接给出正确答案的选项。\n\n"
      "米主要含\nA. 糖类\nB. 铁\nC. 钙\nD. 碘\n答案： A\n\n"
      "水的作用是\nA. 解渴\nB. 御寒\nC. 照明\nD. 取火\n答案：");
}

TEST_F(Exam, MessagesAreTurnsOrOne) {
  const ExamSubject logic = load(ExamSuite::kCeval, "val", 2, {"logic"})[0];
  const std::vector<const ExamQuestion*> shots = {&logic.shots[0], &logic.shots[1]};
  const auto turns =
      exam_messages({ExamSuite::kCeval, false, true}, logic, shots, logic.questions[2], true);
  ASSERT_EQ(turns.size(), 5u);
  EXPECT_EQ(turns[0].content,
            "以下是中国关于逻辑学考试的单项选择题，请选出其中的正确答案。\n\n"
            "甲比乙高，谁矮?____\nA. 甲\nB. 乙\nC. 一样\nD. 都不\n答案：");
  EXPECT_EQ(turns[1].role, Role::kAssistant);
  EXPECT_EQ(turns[1].content, "让我们一步一步思考，\n1. 甲高则乙矮。\n所以答案是B。");
  EXPECT_EQ(turns[4].content, "红花是____\nA. 花\nB. 红\nC. 叶\nD. 根\n答案：");
  EXPECT_EQ(exam_messages({ExamSuite::kCeval}, logic, {}, logic.questions[2], false)[0].content,
            "红花是____\nA. 花\nB. 红\nC. 叶\nD. 根\n答案：");
  const ExamSubject nutrition = load(ExamSuite::kCmmlu, "test", 1, {"nutrition"})[0];
  const std::vector<const ExamQuestion*> shot = {&nutrition.shots[0]};
  const auto one =
      exam_messages({ExamSuite::kCmmlu}, nutrition, shot, nutrition.questions[0], true);
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].content, text({ExamSuite::kCmmlu}, nutrition, 0));
}

TEST(AnswerExtraction, IsCevals) {
  const std::array<std::string, 4> options = {"流量", "拥塞控制", "路由", "差错"};
  const auto letter = [&](const char* answer) {
    const char found = extract_answer(ExamSuite::kCeval, answer, options);
    return found == 0 ? '-' : found;
  };
  EXPECT_EQ(letter("所以答案是A。不对，\n所以答案是C。选项B正确"), 'C');
  EXPECT_EQ(letter("所以答案是甲。选项B正确"), 'B');
  EXPECT_EQ(letter("A是正确的，答案是B"), 'A');
  EXPECT_EQ(letter("答案是 D"), 'D');  // the only letter
  EXPECT_EQ(letter("A 或 B，答案：B"), 'B');
  EXPECT_EQ(letter("A 或 B"), '-');
  EXPECT_EQ(letter("应该是拥塞控制"), 'B');
  EXPECT_EQ(letter("流量和路由"), '-');
  EXPECT_EQ(letter(""), '-');
}

TEST(AnswerExtraction, IsCmmlus) {
  const auto letter = [](const char* answer) {
    const char found = extract_answer(ExamSuite::kCmmlu, answer, {});
    return found == 0 ? '-' : found;
  };
  EXPECT_EQ(letter("B. 因为答案是C"), 'B');
  EXPECT_EQ(letter("选项为：正确答案是： C，不是A"), 'C');
  EXPECT_EQ(letter("由此A不对，答案为选项 D"), 'D');
  EXPECT_EQ(letter("故选：B而非A"), 'B');
  EXPECT_EQ(letter("对比A与C，C项正确"), 'C');
  EXPECT_EQ(letter("看A、B与D，其中D说得正确"), 'D');  // the innermost
  EXPECT_EQ(letter("看A、B，C应当选"), 'C');
  EXPECT_EQ(letter("看A或B，都不是：C，应是：D"), 'D');
  EXPECT_EQ(letter("只有B\n合适"), 'B');
  EXPECT_EQ(letter("说A、B都可以"), '-');
  EXPECT_EQ(letter(""), '-');
}

ExamRun run_of(const std::vector<std::string>& choices) {
  ExamRun run;
  for (const std::string& subject : choices) {
    run.answers.emplace_back();
    for (const char choice : subject)
      run.answers.back().push_back({.choice = choice == '-' ? '\0' : choice});
  }
  return run;
}

TEST_F(Exam, AveragesAreMeansOverSubjects) {
  const auto subjects = load(ExamSuite::kCeval, "val", 1);
  const ExamSummary summary = summarize_exam(subjects, run_of({"ABA", "B"}));
  EXPECT_TRUE(summary.scored);
  EXPECT_EQ(summary.subjects[0].correct, 2);
  EXPECT_DOUBLE_EQ(summary.subjects[0].accuracy, 2.0 / 3);
  EXPECT_DOUBLE_EQ(summary.subjects[0].deviation, std::sqrt(2.0 / 9 / 2));
  EXPECT_DOUBLE_EQ(summary.average.accuracy, 1.0 / 3);
  EXPECT_DOUBLE_EQ(summary.average.deviation, std::sqrt(1.0 / 9) / 2);
  EXPECT_DOUBLE_EQ(summary.by_question.accuracy, 0.5);
  ASSERT_EQ(summary.categories.size(), 3u);
  EXPECT_EQ(summary.categories[2].name, "Hard");
  EXPECT_DOUBLE_EQ(summary.categories[0].accuracy, 2.0 / 3);
  EXPECT_DOUBLE_EQ(summary.categories[2].accuracy, 0);
  EXPECT_THAT(summary_csv(summary), HasSubstr("\ncollege_physics,大学物理,STEM;Hard,1,0,0,0\n"));
  EXPECT_EQ(summary_json(summary)["average"]["accuracy"], 1.0 / 3);
}

TEST_F(Exam, UnpublishedAnswersGiveASubmission) {
  const auto subjects = load(ExamSuite::kCeval, "test", 1);
  const ExamRun run = run_of({"B-"});
  EXPECT_EQ(submission_json(subjects, run).dump(), R"({"logic":{"0":"B","7":"-"}})");
  const ExamSummary summary = summarize_exam(subjects, run);
  EXPECT_FALSE(summary.scored);
  EXPECT_EQ(summary.without_answer, 1);
  EXPECT_FALSE(summary_json(summary)["average"].contains("accuracy"));
  const std::string rows = predictions_jsonl(subjects, run);
  const json first = json::parse(rows.substr(0, rows.find('\n')));
  EXPECT_EQ(first["prediction"], "B");
  EXPECT_FALSE(first.contains("correct"));
}

}  // namespace
}  // namespace llama2zh
