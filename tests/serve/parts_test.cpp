#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "serve/admission.h"
#include "serve/api_error.h"
#include "serve/body_fields.h"
#include "serve/deadlines.h"

namespace llama2zh {
namespace {

int status_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const ApiFailure& failure) {
    return failure.error().status;
  }
  return 200;
}

TEST(BodyFields, ReadsValuesOrNone) {
  const json body = {{"a", 3},   {"b", 8.0},        {"c", nullptr},
                     {"d", "x"}, {"e", {"x", "y"}}, {"f", true}};
  const BodyFields fields(body);
  EXPECT_EQ(fields.integer("a", 0, 5), 3);
  EXPECT_EQ(fields.integer("b", 0, 9), 8);
  EXPECT_EQ(fields.integer("c", 0, 9), std::nullopt);
  EXPECT_EQ(fields.integer("z", 0, 9), std::nullopt);
  EXPECT_EQ(fields.number("a", 0, 5), 3.0);
  EXPECT_EQ(fields.texts("d", 1)->size(), 1u);
  EXPECT_EQ(fields.texts("e", 2)->size(), 2u);
  EXPECT_EQ(fields.flag("f"), true);
  EXPECT_EQ(status_of([&] { fields.integer("a", 4, 5); }), 400);
  EXPECT_EQ(status_of([&] { fields.integer("f", 0, 5); }), 400);
  EXPECT_EQ(status_of([&] { fields.texts("e", 1); }), 400);
  EXPECT_EQ(status_of([&] { fields.flag("a"); }), 400);
  EXPECT_EQ(status_of([&] { fields.text("a"); }), 400);
  EXPECT_EQ(status_of([&] { fields.integers("e", 5); }), 400);
}

TEST(Admission, LetsInWhatThereIsRoomFor) {
  Admission admission(4, 100);
  Admission::Ticket large = admission.admit(1, 500);  // alone
  EXPECT_EQ(status_of([&] { admission.admit(1, 1); }), 429);
  large.reset();
  const Admission::Ticket a = admission.admit(3, 60), b = admission.admit(1, 40);
  EXPECT_EQ(status_of([&] { admission.admit(1, 0); }), 429);
  EXPECT_EQ(admission.refusals(), 2);
}

TEST(Deadlines, CallInTheirOrderUnlessDropped) {
  std::atomic<int> order = 0, first = 0, second = 0, never = 0;
  Deadlines deadlines;
  const auto now = Deadlines::Clock::now();
  const auto after = [&](int milliseconds) {
    return now + std::chrono::milliseconds(milliseconds);
  };
  const auto b = deadlines.call_at(after(40), [&] { second = ++order; });
  const auto a = deadlines.call_at(after(20), [&] { first = ++order; });
  deadlines.call_at(after(10), [&] { ++never; });
  const auto later = deadlines.call_at(after(3600000), [&] { ++never; });
  while (second == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 2);
  EXPECT_EQ(never, 0);
}

}  // namespace
}  // namespace llama2zh
