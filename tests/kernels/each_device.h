#pragma once

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <gtest/gtest.h>

#include <string>

namespace llama2zh::testing {

// Runs its tests on a CPU, and on a GPU where this build and machine have one; else those are skipped
// and say so. Instantiated with each_device() and device_name.
class EachDevice : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const bool gpu = at::hasCUDA() && at::detail::getCUDAHooks().deviceCount() > 0;
    if (GetParam() == "cuda" && !gpu) GTEST_SKIP() << "no CUDA device is usable here";
  }
  at::Device device() const { return at::Device(GetParam()); }
};

inline auto each_device() { return ::testing::Values("cpu", "cuda"); }
inline std::string device_name(const ::testing::TestParamInfo<std::string>& device) {
  return device.param;
}

}  // namespace llama2zh::testing
