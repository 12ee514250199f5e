// A product of few rows lives on how fast the weight streams through. Tiles are a few of its rows
// (which lie one behind another) times up to four rows of x; lanes run over k, and a sum's lanes are
// added up at the end. dot_tiles_avx512.cpp has bfloat16 dot products; what is here is for every
// other processor and type: numbers become fp32 as they are loaded.
#include "llama2zh/kernels/few_row_product.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "kernels/dot_tiles.h"
#include "kernels/joined_columns.h"
#include "kernels/lanes.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

thread_local bool invariant_products = false;

constexpr int64_t kMultipliesAtOnce = 128 * 1024;  // worth a thread
constexpr int64_t kFewDotRows = 96;                // measured: libtorch is as fast from here on
constexpr int64_t kFewTileRows = 64;               // with AMX
constexpr int64_t kFewestTileRows = 2;             // fewer are one stream through the weight
constexpr int64_t kFewConvertedRows = 4;           // libtorch converts the weight once for all rows

// How bfloat16 is multiplied by bfloat16.
enum class Dots { kConverted, kAvx512, kAmx };

Dots dots_of(const at::Tensor& x, const at::Tensor& weight) {
#if defined(__x86_64__)
  const bool dots = x.scalar_type() == at::kBFloat16 && weight.scalar_type() == at::kBFloat16 &&
                    kernel_isa() == Isa::kAvx512 && __builtin_cpu_supports("avx512bf16");
  const bool tiles = has_amx_dots(x.size(1)) && (invariant_products || x.size(0) > kFewestTileRows);
  if (dots) return tiles ? Dots::kAmx : Dots::kAvx512;
#endif
  return Dots::kConverted;
}

at::Tensor packed_rows(const at::Tensor& rows, Dots dots) {
#if defined(__x86_64__)
  if (dots == Dots::kAmx) return pack_amx_rows(rows);
  if (dots == Dots::kAvx512) return pack_dot_rows(rows);
#endif
  return {};
}

// Two rows of the weight times kRows of x.
template <typename T, typename W, int kRows, int kColumns>
void converted_tile(const T* x, const W* weight, int64_t in, int64_t out, T* y) {
  lanes::Floats sums[kRows][kColumns] = {};
  lanes::for_lanes(in, [&](int64_t k, int64_t count) {
    lanes::Floats w[kColumns];
    for (int c = 0; c < kColumns; ++c) w[c] = lanes::load_up_to(weight + c * in + k, count);
    for (int r = 0; r < kRows; ++r) {
      const lanes::Floats v = lanes::load_up_to(x + r * in + k, count);
      for (int c = 0; c < kColumns; ++c) sums[r][c] += v * w[c];
    }
  });
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) y[r * out + c] = static_cast<T>(lanes::sum(sums[r][c]));
  }
}

template <typename T, typename W, int kColumns>
void converted_rows(const T* x, const W* weight, int64_t rows, int64_t in, int64_t out, T* y) {
  int64_t row = 0;
  for (; row + 2 <= rows; row += 2) {
    converted_tile<T, W, 2, kColumns>(x + row * in, weight, in, out, y + row * out);
  }
  if (row < rows) converted_tile<T, W, 1, kColumns>(x + row * in, weight, in, out, y + row * out);
}

template <typename T, typename W>
void converted_product(const T* x, const W* weight, int64_t rows, int64_t in, int64_t out, T* y,
                       int64_t begin, int64_t end) {
  run_with_isa([&] {
    int64_t column = begin;
    for (; column + 2 <= end; column += 2) {
      converted_rows<T, W, 2>(x, weight + column * in, rows, in, out, y + column);
    }
    if (column < end) {
      converted_rows<T, W, 1>(x, weight + column * in, rows, in, out, y + column);
    }
  });
}

template <typename T, typename W>
void converted_product(const at::Tensor& x, const at::Tensor& weight, at::Tensor& y, int64_t begin,
                       int64_t end) {
  converted_product(x.const_data_ptr<T>(), weight.const_data_ptr<W>(), x.size(0), x.size(1),
                    weight.size(0), y.data_ptr<T>(), begin, end);
}

}  // namespace

bool has_few_row_product(const at::Tensor& x, const at::Tensor& weight) {
  const at::ScalarType of_x = x.scalar_type(), of_weight = weight.scalar_type();
  return x.is_cpu() && weight.is_cpu() && weight.is_contiguous() &&
         (of_x == at::kFloat || of_x == at::kBFloat16) &&
         (of_weight == at::kBFloat16 || (of_weight == at::kFloat && of_x == at::kFloat));
}

int64_t few_rows(const at::Tensor& x) {
  if (x.scalar_type() != at::kBFloat16) return kFewConvertedRows;
  return has_amx_dots(x.size(-1)) && kernel_isa() == Isa::kAvx512 ? kFewTileRows : kFewDotRows;
}

std::vector<at::Tensor> few_row_products(const at::Tensor& x, std::span<const at::Tensor> weights) {
  std::vector<at::Tensor> results;
  std::vector<int64_t> columns;
  for (const at::Tensor& weight : weights) {
    if (!has_few_row_product(x, weight) || x.dim() != 2 || weight.dim() != 2 ||
        x.size(1) != weight.size(1) || weight.scalar_type() != weights.front().scalar_type()) {
      fail_data("few_row_product", cat("x ", x.sizes(), " and weight ", weight.sizes(),
                                       " do not fit: see has_few_row_product()"));
    }
    results.push_back(at::empty({x.size(0), weight.size(0)}, x.options()));
    columns.push_back(weight.size(0));
  }
  const at::Tensor rows = x.contiguous();
  const int64_t n = x.size(0), in = x.size(1);
  if (n == 0 || weights.empty()) return results;
  const Dots dots = dots_of(x, weights.front());
  const at::Tensor packed = packed_rows(rows, dots);
  const int64_t at_once = std::max<int64_t>(1, kMultipliesAtOnce / std::max<int64_t>(1, in * n));
  for_joined_columns(columns, at_once, [&](size_t which, int64_t begin, int64_t end) {
    const at::Tensor& weight = weights[which];
    at::Tensor& y = results[which];
    if (dots != Dots::kConverted) {
      const auto product = dots == Dots::kAmx ? dot_product_amx : dot_product_avx512;
      product(packed.const_data_ptr<c10::BFloat16>(), n, in, weight.size(0),
              weight.const_data_ptr<c10::BFloat16>(), begin, end, y.data_ptr<c10::BFloat16>());
    } else if (x.scalar_type() == at::kBFloat16) {
      converted_product<c10::BFloat16, c10::BFloat16>(rows, weight, y, begin, end);
    } else if (weight.scalar_type() == at::kBFloat16) {
      converted_product<float, c10::BFloat16>(rows, weight, y, begin, end);
    } else {
      converted_product<float, float>(rows, weight, y, begin, end);
    }
  });
  return results;
}

at::Tensor few_row_product(const at::Tensor& x, const at::Tensor& weight) {
  return few_row_products(x, {&weight, 1}).front();
}

InvariantProducts::InvariantProducts() : before_(invariant_products) { invariant_products = true; }
InvariantProducts::~InvariantProducts() { invariant_products = before_; }
bool InvariantProducts::active() { return invariant_products; }

}  // namespace llama2zh
