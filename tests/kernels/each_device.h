#pragma once

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <gtest/gtest.h>

#include <string>

namespace llama2zh::testing {

// Runs its tests on a CPU, and on a GPU where this build and machine have one; else those are skipped
// and say so. Instantiated by LLAMA2ZH_ON_EACH_DEVICE(Suite).
class EachDevice : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const bool gpu = at::hasCUDA() && at::detail::getCUDAHooks().deviceCount() > 0;
    if (GetParam() == "cuda" && !gpu) GTEST_SKIP() << "no CUDA device is usable here";
  }
  at::Device device() const { return at::Device(GetParam()); }
};

#define LLAMA2ZH_ON_EACH_DEVICE(Suite)                                      \
  INSTANTIATE_TEST_SUITE_P(Device, Suite, ::testing::Values("cpu", "cuda"), \
                           [](const auto& each) { return each.param; })

}  // namespace llama2zh::testing
