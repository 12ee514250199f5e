#include "llama2zh/base/error.h"

#include <cerrno>

#include "base/expect_error.h"
#include "llama2zh/base/reason.h"
#include "llama2zh/base/utf8.h"

namespace llama2zh {
namespace {

TEST(Error, TextIsWhereProblemRemedy) {
  EXPECT_EQ(
      error_text_of(ErrorKind::kUsage, [] { fail_usage("--rank", "is 0", "give 1 or more"); }),
      "--rank: is 0; give 1 or more");
  EXPECT_EQ(error_text_of(ErrorKind::kData, [] { fail_data("a.jsonl:3", "no text"); }),
            "a.jsonl:3: no text");
  EXPECT_EQ(error_text_of(ErrorKind::kFormat, [] { fail_format("", "no place"); }), "no place");
}

TEST(Error, IoAppendsTheSystemsText) {
  EXPECT_EQ(error_text_of(ErrorKind::kIo, [] { fail_io("x", "can't be read", ENOENT); }),
            "x: can't be read: no such file or directory");
  EXPECT_EQ(error_text_of(ErrorKind::kIo, [] { fail_io("x", "is a folder"); }), "x: is a folder");
}

TEST(Error, LibrariesPlacesAndStacksAreLeftOut) {
  EXPECT_EQ(library_reason(
                "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed "
                "by peer [127.0.0.1]:4321. This is typically caused by a remote worker crashing."),
            "Connection closed by peer [127.0.0.1]:4321");
  EXPECT_EQ(library_reason("size mismatch\nException raised from check at ../aten/src/x.cpp:12 "
                           "(most recent call first):\nframe #0: a\nframe #1: b"),
            "size mismatch");
  EXPECT_EQ(library_reason("two lines\nof text"), "two lines\nof text");
  EXPECT_EQ(library_reason("[rank 1] said: no"), "[rank 1] said: no");
  EXPECT_EQ(library_reason("[1, 2] is no shape"), "[1, 2] is no shape");
}

TEST(Error, WhatComesFromAFileNeitherDrownsNorSteersTheTerminal) {
  EXPECT_EQ(error_text_of(ErrorKind::kFormat, [] { fail_format("f", "\x1b[2J\rkey\x7f\nnext"); }),
            "f: \\x1b[2J\\x0dkey\\x7f\nnext");
  std::string chinese = "a";
  for (int i = 0; i < 100000; ++i) chinese += "字";
  const std::string text =
      error_text_of(ErrorKind::kFormat, [&] { fail_format("f", chinese, "try another"); });
  EXPECT_LT(text.size(), 2100u);
  EXPECT_TRUE(is_utf8(text));
  EXPECT_NE(text.find("字 ...; try another"), std::string::npos);
}

TEST(Error, ExitCodes) {
  EXPECT_EQ(Error(ErrorKind::kUsage, "", "").exit_code(), 2);
  EXPECT_EQ(Error(ErrorKind::kData, "", "").exit_code(), 1);
  EXPECT_EQ(Error(ErrorKind::kFormat, "", "").exit_code(), 1);
  EXPECT_EQ(Error(ErrorKind::kIo, "", "").exit_code(), 1);
}

}  // namespace
}  // namespace llama2zh
