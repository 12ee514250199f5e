#pragma once

#include <cstdint>
#include <memory>

#include "llama2zh/data/loader.h"

namespace llama2zh {

// Makes the micro-batches that will be asked for next, in a thread of its own, while the last ones are
// trained on. get() gives what BatchLoader::batch() gives, whatever was guessed. One thread calls.
class BatchPrefetcher {
 public:
  // `ahead` micro-batches at most are ready (0: none, no thread). After (epoch, i) the guess is
  // (epoch, i + stride), behind the epoch's end (epoch + 1, i modulo stride): what rank i modulo
  // stride of `stride` ranks takes. `loader` must outlive it.
  BatchPrefetcher(const BatchLoader& loader, int64_t ahead, int64_t stride = 1);
  ~BatchPrefetcher();
  // Errors of the reading are thrown here, for the micro-batch they belong to.
  PackedBatch get(int64_t epoch, int64_t index);
  double wait_seconds() const;  // that get() has taken so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace llama2zh
