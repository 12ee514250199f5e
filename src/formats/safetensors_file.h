#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "llama2zh/base/file.h"
#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {

// One safetensors file in progress: the header at once, then the tensors in the header's order.
// Nothing is left of it without commit(), which reads back what is on disk before the rename.
class SafetensorsFile {
 public:
  SafetensorsFile(const fs::path& path, const std::vector<TensorInfo>& infos,
                  const std::map<std::string, std::string>& metadata);
  void add(const at::Tensor& tensor);  // shape and type have been checked
  void commit();

 private:
  fs::path path_;
  std::string header_;
  AtomicFile file_;
  uint64_t end_ = 0;
};

}  // namespace llama2zh
