#pragma once

#include <string>
#include <vector>

#include "llama2zh/base/file.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/formats/output_folder.h"
#include "llama2zh/formats/tensor_source.h"

namespace llama2zh {

// The output folder of a verb that writes a whole one, checked and staged: kUsage if it is, or with
// `overwrite` holds, one of `inputs`; if it is not empty and may not be, or must not be replaced
// (check_replaceable). From here on SIGINT and SIGTERM make throw_if_stopped() throw, so that what is
// half written goes.
StagedFolder stage_output(const std::string& output, bool overwrite,
                          const std::vector<NamedInput>& inputs);

// A model's tensors, where each load() is a place to stop at.
class StoppableSource : public TensorSource {
 public:
  explicit StoppableSource(const TensorSource& source) : source_(&source) {}
  const std::vector<TensorInfo>& tensors() const override { return source_->tensors(); }
  at::Tensor load(std::string_view name) const override {
    throw_if_stopped();
    return source_->load(name);
  }
  std::string describe() const override { return source_->describe(); }

 private:
  const TensorSource* source_;
};

}  // namespace llama2zh
