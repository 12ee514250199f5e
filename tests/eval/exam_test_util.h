#pragma once

#include <filesystem>
#include <string>

#include "llama2zh/base/file.h"

namespace llama2zh::testing {

// A small exam of invented questions in both suites' layouts.
inline std::filesystem::path write_small_exam(const std::filesystem::path& folder) {
  const std::filesystem::path ceval = folder / "ceval", cmmlu = folder / "cmmlu";
  for (const char* split : {"dev", "val", "test"})
    std::filesystem::create_directories(ceval / split);
  for (const char* split : {"dev", "test"}) std::filesystem::create_directories(cmmlu / split);
  write_file_atomic(ceval / "subject_mapping.json",
                    R"({"logic": ["Logic", "逻辑学", "Humanities"],
                        "college_physics": ["College Physics", "大学物理", "STEM"],
                        "law": ["Law", "法学", "Humanities"]})");
  const std::string with_explanation = "id,question,A,B,C,D,answer,explanation\n";
  write_file_atomic(
      ceval / "dev/logic_dev.csv",
      with_explanation + "0,甲比乙高，谁矮?____,甲,乙,一样,都不,B,1. 甲高则乙矮。\n" +
          "1,\"若雨则湿，\n今雨，则____\",湿,干,\"不定，待查\",无,A,1. 由条件得湿。\n");
  write_file_atomic(
      ceval / "val/logic_val.csv",
      "id,question,A,B,C,D,answer\n0,所有鸟会飞，雀是鸟，则雀____,会飞,不飞,是鱼,无翅,A\n"
      "1, 二加二是____ ,三,1.50,四,五,C\n2,红花是____,花,红,叶,根,A\n");
  write_file_atomic(ceval / "test/logic_test.csv",
                    "id,question,A,B,C,D\n0,水是____,火,湿,干,土\n7,火是____,冷,热,湿,木\n");
  write_file_atomic(ceval / "dev/college_physics_dev.csv",
                    with_explanation + "0,光比声____,慢,快,同,无,B,1. 光快。\n");
  write_file_atomic(ceval / "val/college_physics_val.csv",
                    "id,question,A,B,C,D,answer\n0,铁比木____,重,轻,同,无,A\n");
  write_file_atomic(
      cmmlu / "dev/nutrition.csv",
      ",Question,A,B,C,D,Answer\n0,米主要含,糖类,铁,钙,碘,A\n1,蛋主要含,碘,蛋白质,铁,钙,B\n");
  write_file_atomic(cmmlu / "test/nutrition.csv",
                    "\xEF\xBB\xBF,Question,A,B,C,D,Answer\r\n0,水的作用是,解渴,御寒,照明,取火,A\r\n"
                    "1,盐含,钠,铁,金,银,A\r\n");
  write_file_atomic(cmmlu / "test/ancient_chinese.csv",
                    ",Question,A,B,C,D,Answer\n0,\"\"\"曰\"\"是\",说,日,口,田,A\n");
  return folder;
}

}  // namespace llama2zh::testing
