#pragma once

#include "llama2zh/base/error.h"

namespace llama2zh {

// Training whose loss or gradients are no finite numbers any more. The same steps on the same data come
// to the same end, so the program has an exit code of its own for it, which `llama2zh launch` and batch
// systems can tell from an accident that is worth another try.
class Diverged : public Error {
 public:
  static constexpr int kExitCode = 65;
  Diverged(std::string_view where, std::string_view problem, std::string_view remedy = {})
      : Error(ErrorKind::kData, where, problem, remedy) {}
};

}  // namespace llama2zh
