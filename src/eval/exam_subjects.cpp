// C-Eval's subjects come with its data: {name: [English, Chinese, category]}; its eight hard subjects
// are those that its paper (https://arxiv.org/abs/2305.08322) names. CMMLU's names and categories are
// src/categories.py of https://github.com/haonan-li/CMMLU; its data has neither.
#include <algorithm>
#include <string_view>

#include "llama2zh/base/error.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "llama2zh/eval/exam.h"

namespace llama2zh {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHardSubjects[] = {
    "advanced_mathematics",  "discrete_mathematics", "probability_and_statistics",
    "college_chemistry",     "college_physics",      "high_school_mathematics",
    "high_school_chemistry", "high_school_physics",
};

enum CmmluCategory : uint8_t { kStem = 1, kHumanities = 2, kSocial = 4, kOther = 8, kChina = 16 };
constexpr const char* kCmmluCategories[] = {"STEM", "Humanities", "Social Science", "Other",
                                            "China specific"};

struct CmmluSubject {
  const char* name;
  const char* title;
  int categories;
};
constexpr CmmluSubject kCmmluSubjects[] = {
    {"agronomy", "农学", kOther},
    {"anatomy", "解剖学", kStem},
    {"ancient_chinese", "古汉语", kSocial | kChina},
    {"arts", "艺术学", kHumanities},
    {"astronomy", "天文学", kStem},
    {"business_ethics", "商业伦理", kSocial},
    {"chinese_civil_service_exam", "中国公务员考试", kSocial | kChina},
    {"chinese_driving_rule", "中国驾驶规则", kOther | kChina},
    {"chinese_food_culture", "中国饮食文化", kSocial | kChina},
    {"chinese_foreign_policy", "中国外交政策", kSocial | kChina},
    {"chinese_history", "中国历史", kHumanities | kChina},
    {"chinese_literature", "中国文学", kHumanities | kChina},
    {"chinese_teacher_qualification", "中国教师资格", kSocial | kChina},
    {"clinical_knowledge", "临床知识", kOther},
    {"college_actuarial_science", "大学精算学", kStem},
    {"college_education", "大学教育学", kSocial},
    {"college_engineering_hydrology", "大学工程水文学", kStem},
    {"college_law", "大学法律", kHumanities},
    {"college_mathematics", "大学数学", kStem},
    {"college_medical_statistics", "大学医学统计", kStem},
    {"college_medicine", "大学医学", kOther},
    {"computer_science", "计算机科学", kStem},
    {"computer_security", "计算机安全", kOther},
    {"conceptual_physics", "概念物理学", kStem},
    {"construction_project_management", "建设工程管理", kOther | kChina},
    {"economics", "经济学", kSocial},
    {"education", "教育学", kSocial},
    {"electrical_engineering", "电气工程", kStem},
    {"elementary_chinese", "小学语文", kSocial | kChina},
    {"elementary_commonsense", "小学常识", kOther | kChina},
    {"elementary_information_and_technology", "小学信息技术", kOther},
    {"elementary_mathematics", "初等数学", kStem},
    {"ethnology", "民族学", kSocial | kChina},
    {"food_science", "食品科学", kOther},
    {"genetics", "遗传学", kStem},
    {"global_facts", "全球事实", kHumanities},
    {"high_school_biology", "高中生物", kStem},
    {"high_school_chemistry", "高中化学", kStem},
    {"high_school_geography", "高中地理", kSocial},
    {"high_school_mathematics", "高中数学", kStem},
    {"high_school_physics", "高中物理学", kStem},
    {"high_school_politics", "高中政治", kSocial | kChina},
    {"human_sexuality", "人类性行为", kOther},
    {"international_law", "国际法学", kHumanities},
    {"journalism", "新闻学", kSocial},
    {"jurisprudence", "法理学", kHumanities},
    {"legal_and_moral_basis", "法律与道德基础", kOther},
    {"logical", "逻辑学", kHumanities},
    {"machine_learning", "机器学习", kStem},
    {"management", "管理学", kSocial},
    {"marketing", "市场营销", kSocial},
    {"marxist_theory", "马克思主义理论", kHumanities},
    {"modern_chinese", "现代汉语", kSocial | kChina},
    {"nutrition", "营养学", kOther},
    {"philosophy", "哲学", kHumanities},
    {"professional_accounting", "专业会计", kSocial},
    {"professional_law", "专业法学", kHumanities},
    {"professional_medicine", "专业医学", kOther},
    {"professional_psychology", "专业心理学", kSocial},
    {"public_relations", "公共关系", kSocial},
    {"security_study", "安全研究", kSocial},
    {"sociology", "社会学", kSocial},
    {"sports_science", "体育学", kOther},
    {"traditional_chinese_medicine", "中医中药", kOther | kChina},
    {"virology", "病毒学", kStem},
    {"world_history", "世界历史", kHumanities},
    {"world_religions", "世界宗教", kHumanities},
};

std::vector<ExamSubject> cmmlu_subjects() {
  std::vector<ExamSubject> subjects;
  for (const CmmluSubject& one : kCmmluSubjects) {
    ExamSubject subject{one.name, one.title, {}, {}, {}};
    for (size_t i = 0; i < std::size(kCmmluCategories); ++i)
      if ((one.categories >> i & 1) != 0) subject.categories.emplace_back(kCmmluCategories[i]);
    subjects.push_back(std::move(subject));
  }
  return subjects;
}

std::vector<ExamSubject> ceval_subjects(const fs::path& folder) {
  const fs::path path = folder / "subject_mapping.json";
  if (!fs::exists(path)) {
    fail_usage(path.string(), "C-Eval's list of subjects is missing",
               "it lies beside the README of https://github.com/hkust-nlp/ceval");
  }
  std::vector<ExamSubject> subjects;
  const ordered_json mapping = read_ordered_json_file(path);
  for (const auto& [name, entry] : mapping.items()) {
    const bool right = entry.is_array() && entry.size() == 3 &&
                       std::all_of(entry.begin(), entry.end(),
                                   [](const ordered_json& text) { return text.is_string(); });
    if (!right)
      fail_format(path.string(),
                  cat("\"", name, "\" is not [English name, Chinese name, category]"));
    ExamSubject subject{name, entry[1].get<std::string>(), {entry[2].get<std::string>()}, {}, {}};
    if (std::find(std::begin(kHardSubjects), std::end(kHardSubjects), name) !=
        std::end(kHardSubjects))
      subject.categories.emplace_back("Hard");
    subjects.push_back(std::move(subject));
  }
  return subjects;
}

}  // namespace

std::vector<ExamSubject> exam_subjects(ExamSuite suite, const fs::path& folder) {
  return suite == ExamSuite::kCeval ? ceval_subjects(folder) : cmmlu_subjects();
}

std::string exam_name(ExamSuite suite) { return suite == ExamSuite::kCeval ? "ceval" : "cmmlu"; }

}  // namespace llama2zh
