#pragma once

#include <gtest/gtest.h>

#include <string>

#include "llama2zh/base/error.h"

namespace llama2zh {

// The text of the Error that `act` throws; a failure if it throws none or one of another kind.
template <typename Act>
std::string error_text_of(ErrorKind kind, Act&& act) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "expected an error, none was thrown";
  return {};
}

}  // namespace llama2zh
