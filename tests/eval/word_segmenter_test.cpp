// Words of the jieba package (0.42.1), which scores_oracle.py compares with on thousands of texts.
#include "llama2zh/eval/word_segmenter.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "base/expect_error.h"
#include "base/temp_folder.h"

namespace llama2zh {
namespace {

template <typename Act>
void expect_word_error(Act act, ErrorKind kind, const std::string& text) {
  const std::string message = error_text_of(kind, act);
  EXPECT_NE(message.find(text), std::string::npos) << message;
}

const WordSegmenter& segmenter() {
  static const WordSegmenter shared;
  return shared;
}

// The words with "|" between them.
std::string words_of(const WordSegmenter& cutter, const std::string& text) {
  std::string joined;
  for (const std::string_view word : cutter.cut(text)) {
    if (!joined.empty()) joined += '|';
    joined += word;
  }
  return joined;
}
std::string words_of(const std::string& text) { return words_of(segmenter(), text); }

TEST(WordSegmenter, TakesTheLikeliestWayThroughTheDictionary) {
  EXPECT_EQ(words_of("工信处女干事每月经过下属科室都要亲口交代24口交换机等技术性器件的安装工作。"),
            "工信处|女干事|每月|经过|下属|科室|都|要|亲口|交代|24|口|交换机|等|技术性|器件|的|安装|"
            "工作|。");
  EXPECT_EQ(words_of("小明硕士毕业于中国科学院计算所，后在日本京都大学深造"),
            "小明|硕士|毕业|于|中国科学院|计算所|，|后|在|日本京都大学|深造");
  EXPECT_EQ(words_of("乒乓球拍卖完了"), "乒乓球|拍卖|完|了");
}

TEST(WordSegmenter, FindsWordsThatTheDictionaryLacks) {
  EXPECT_EQ(words_of("他来到了网易杭研大厦"), "他|来到|了|网易|杭研|大厦");
  EXPECT_EQ(words_of("今天天气真好啊啊啊啊"), "今天天气|真|好|啊啊啊|啊");
  EXPECT_EQ(words_of("小黛玉葬花落"), "小黛玉|葬花|落");
  EXPECT_EQ(words_of("龦龥鿕鿖"), "龦|龥|鿕|鿖");  // the last two are beyond its range
}

TEST(WordSegmenter, NumbersLettersAndSpaces) {
  EXPECT_EQ(words_of("增长3.14%，用C++写的AT&T程序v1.0-beta"),
            "增长|3.14%|，|用|C++|写|的|AT&T|程序|v1.0|-|beta");
  EXPECT_EQ(words_of("𠀀㐀甲乙 hello世界100.%5.5.5%"), "𠀀|㐀|甲乙| |hello|世界|100|.%|5.5|.|5%");
  EXPECT_EQ(words_of("第一\r\n\u3000第二\t三"), "第一|\r\n|\u3000|第二|\t|三");
  EXPECT_EQ(words_of(""), "");
  EXPECT_EQ(words_of("x"), "x");
}

TEST(WordSegmenter, WordsOfTheUsersOwn) {
  const TempFolder folder;
  const std::string text = "大模型的时候，深度学习框架一碗水";
  EXPECT_EQ(words_of(text), "大|模型|的|时候|，|深度|学习|框架|一碗水");
  std::ofstream(folder.path() / "words.txt")
      << "\xEF\xBB\xBF大模型\n\n深度学习框架 3000\n一碗 9 n\n杭研 0\n";
  WordSegmenter own;
  own.add_dictionary(folder.path() / "words.txt");
  EXPECT_EQ(words_of(own, text), "大模型|的|时候|，|深度学习框架|一碗水");
  EXPECT_EQ(words_of(own, "网易杭研大厦"), "网易|杭|研|大厦");

  std::ofstream(folder.path() / "bad.txt") << "好\n\xFF\xFE 3\n";
  expect_word_error([&] { own.add_dictionary(folder.path() / "bad.txt"); }, ErrorKind::kData,
                    "bad.txt:2");
  std::ofstream(folder.path() / "large.txt") << "好 99999999999999999999\n";
  expect_word_error([&] { own.add_dictionary(folder.path() / "large.txt"); }, ErrorKind::kData,
                    "too large");
}

}  // namespace
}  // namespace llama2zh
