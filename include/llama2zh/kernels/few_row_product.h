#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace llama2zh {

// y = x W^T for a few rows x [n, in] in bfloat16 or fp32 on a CPU and a frozen weight [out, in] in
// bfloat16 (or fp32 under fp32 rows), read as it lies in memory or in a mapped file -> [n, out] in
// x's type; no autograd. Sums are formed in fp32. The bits of a row of y depend on that row of x
// alone: not on the number of threads, nor on n (but for one and two rows where there is AMX; under
// InvariantProducts not there either). At the limit of memory for one row, of the
// arithmetic from some sixteen on.
at::Tensor few_row_product(const at::Tensor& x, const at::Tensor& weight);
// Products of one x with several weights of one type, as if each were alone; x is prepared once and
// threads meet once.
std::vector<at::Tensor> few_row_products(const at::Tensor& x, std::span<const at::Tensor> weights);

// Whether these tensors' types and places are such.
bool has_few_row_product(const at::Tensor& x, const at::Tensor& weight);

// Up to how many rows it is faster than libtorch's product here.
int64_t few_rows(const at::Tensor& x);

// While one lives, products of this thread that need no gradient take few_row_product() for any
// number of rows (a weight in another type is cast first), so that a row's result is the same alone
// and in any batch.
class InvariantProducts {
 public:
  InvariantProducts();
  ~InvariantProducts();
  InvariantProducts(const InvariantProducts&) = delete;
  InvariantProducts& operator=(const InvariantProducts&) = delete;
  static bool active();

 private:
  bool before_;
};

}  // namespace llama2zh
