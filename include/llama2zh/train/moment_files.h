#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/formats/tensor_source.h"
#include "llama2zh/train/sharded_adamw.h"

namespace llama2zh {

// What one rank of a sharded run writes of a checkpoint.
struct MomentShard {
  int64_t rank = 0, ranks = 1;
  std::vector<HeldMoment> moments;
};

// "moments-00002-of-00003.safetensors" for rank 1 of 3.
std::string moment_file_name(int64_t rank, int64_t ranks);
// Writes that file into the folder; tensors are "NAME@BEGIN", of one dimension. Atomic.
void write_moments(const std::filesystem::path& folder, const MomentShard& shard);

// The moments of a checkpoint, whole (in state.safetensors) or in parts (moments-*.safetensors), by
// parameter and range. Files are mapped: only what is read is loaded.
class MomentFiles {
 public:
  explicit MomentFiles(const std::filesystem::path& checkpoint);
  // Fills moment.values. kFormat, naming the moment, if parts are missing or it has another number
  // of elements or type.
  void read(const HeldMoment& moment) const;

 private:
  struct Part {
    int64_t begin = 0, count = 0;
    const TensorSource* source = nullptr;
    std::string tensor;
  };
  const std::vector<Part>& parts_of(const HeldMoment& moment) const;
  std::string folder_;
  std::vector<std::unique_ptr<TensorSource>> sources_;
  std::map<std::string, std::vector<Part>> parts_;  // by moment, in their order
};

}  // namespace llama2zh
