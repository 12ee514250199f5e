// Tensors on their way to a file.
#include "formats/tensor_bytes.h"

#include "formats/dtype.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

void check_storable(std::string_view where, std::string_view name, const at::Tensor& tensor) {
  if (!tensor.defined()) fail_data(where, cat("tensor ", name, " is undefined"));
  if (tensor.layout() != at::kStrided || dtype_names(tensor.scalar_type()) == nullptr) {
    fail_data(where, cat("tensor ", name, " of type ", c10::toString(tensor.scalar_type()),
                         " and layout ", tensor.layout(), " can't be stored"));
  }
}

at::Tensor dense_on_cpu(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU).resolve_conj().resolve_neg().contiguous();
}

TensorInfo info_of(std::string_view name, const at::Tensor& tensor) {
  return {std::string(name), tensor.scalar_type(), tensor.sizes().vec()};
}

}  // namespace llama2zh
