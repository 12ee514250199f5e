// llama2zh bench kernels: rates of matrix products with frozen weights, of few and of many rows,
// beside the machine's memory and arithmetic. More copies of each weight than any cache holds are
// gone through in turn; the best time counts, since other work only ever makes one slower.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "commands/verbs.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/kernels/few_row_product.h"
#include "llama2zh/kernels/memory_rate.h"
#include "llama2zh/kernels/product_peak.h"
#include "llama2zh/kernels/quantized_matrix.h"

namespace llama2zh {
namespace {

struct KernelOptions {
  std::vector<int64_t> rows = {1, 2, 4, 8, 16, 32, 128, 512};
  std::vector<std::string> formats = {"libtorch", "bf16", "int8", "int4"};
  int64_t in = 4096;
  int64_t out = 11008;
  int64_t weights_mib = 512;
  int64_t rounds = 3;
  bool json_output = false;
  static auto options() {
    using T = KernelOptions;
    return std::tuple(
        option("rows", &T::rows, "Numbers of rows of x.", at_least(1)),
        option("formats", &T::formats,
               "What to measure. libtorch: its bfloat16 linear. bf16: ours. int8, int4: 8-bit "
               "activations, a scale a row and for 32 neighbours. int8_32, int4_128: other groups. "
               "int8_float, int4_float: activations in fp32.",
               some_of({"libtorch", "bf16", "int8", "int8_32", "int8_float", "int4", "int4_128",
                        "int4_float"})),
        option("in", &T::in, "Width of x.", at_least(1)),
        option("out", &T::out, "Width of y.", at_least(1)),
        option("weights_mib", &T::weights_mib,
               "Copies of a weight are gone through in turn, at least this much together.",
               at_least(1)),
        option("rounds", &T::rounds, "How often; the best time counts.", at_least(1)),
        option("json", &T::json_output, "One JSON object a measurement."));
  }
};

struct Subject {
  uint64_t bytes = 0;  // of one weight
  std::vector<std::function<void(const at::Tensor& x)>> products;
};

int64_t copies(uint64_t bytes, const KernelOptions& options) {
  const uint64_t wanted = static_cast<uint64_t>(options.weights_mib) << 20;
  return static_cast<int64_t>((wanted + bytes - 1) / bytes);
}

Subject dense_subject(bool own, const KernelOptions& options) {
  const at::Tensor weight = at::randn({options.out, options.in}).to(at::kBFloat16);
  Subject subject{weight.nbytes(), {}};
  for (int64_t i = copies(subject.bytes, options); i > 0; --i) {
    const at::Tensor copy = weight.clone();
    if (own) {
      subject.products.emplace_back([copy](const at::Tensor& x) { few_row_product(x, copy); });
    } else {
      subject.products.emplace_back([copy](const at::Tensor& x) { at::linear(x, copy); });
    }
  }
  return subject;
}

Subject quantized_subject(int bits, int64_t group_size, Activations activations,
                          const KernelOptions& options) {
  const QuantizedMatrix matrix =
      quantize_rows(at::randn({options.out, options.in}), bits, group_size);
  Subject subject{matrix.bytes(), {}};
  for (int64_t i = copies(subject.bytes, options); i > 0; --i) {
    QuantizedMatrix copy = matrix;
    copy.codes = matrix.codes.clone();
    copy.scales = matrix.scales.clone();
    subject.products.emplace_back(
        [copy, activations](const at::Tensor& x) { quantized_product(x, copy, activations); });
  }
  return subject;
}

Subject make_subject(const std::string& format, const KernelOptions& options) {
  const auto int8 = Activations::kInt8, fp32 = Activations::kFloat;
  if (format == "libtorch") return dense_subject(/*own=*/false, options);
  if (format == "bf16") return dense_subject(/*own=*/true, options);
  if (format == "int8") return quantized_subject(8, -1, int8, options);
  if (format == "int8_32") return quantized_subject(8, 32, int8, options);
  if (format == "int8_float") return quantized_subject(8, -1, fp32, options);
  if (format == "int4") return quantized_subject(4, 32, int8, options);
  if (format == "int4_128") return quantized_subject(4, 128, int8, options);
  return quantized_subject(4, 32, fp32, options);
}

double best_seconds(const Subject& subject, const at::Tensor& x, int64_t rounds) {
  double best = std::numeric_limits<double>::infinity();
  for (int64_t round = 0; round < rounds; ++round) {
    for (const auto& product : subject.products) {
      const auto start = std::chrono::steady_clock::now();
      product(x);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      best = std::min(best, took.count());
    }
  }
  return best;
}

void print_measurement(const std::string& format, int64_t rows, uint64_t bytes, double seconds,
                       const KernelOptions& options) {
  const double gops = 2e-9 * static_cast<double>(rows * options.in * options.out) / seconds;
  const double gbs = 1e-9 * static_cast<double>(bytes) / seconds;
  if (!options.json_output) {
    std::printf("| %-10s | %4lld | %8.3f | %6.1f | %5.1f |\n", format.c_str(),
                static_cast<long long>(rows), seconds * 1e3, gops, gbs);
  } else {
    std::puts(ordered_json{{"format", format},
                           {"rows", rows},
                           {"in", options.in},
                           {"out", options.out},
                           {"seconds", seconds},
                           {"gops", gops},
                           {"weight_gb_s", gbs}}
                  .dump()
                  .c_str());
  }
  std::fflush(stdout);
}

void print_machine(const KernelOptions& options) {
  const double memory = measure_memory_rate() * 1e-9;
  const double bf16 = measure_product_peak(at::kBFloat16, at::kCPU) * 1e-9;
  const double fp32 = measure_product_peak(at::kFloat, at::kCPU) * 1e-9;
  if (options.json_output) {
    std::puts(ordered_json{{"threads", at::get_num_threads()},
                           {"memory_gb_s", memory},
                           {"bf16_gflops", bf16},
                           {"fp32_gflops", fp32}}
                  .dump()
                  .c_str());
    return;
  }
  std::printf(
      "%d threads; memory read %.1f GB/s; libtorch's large products: bf16 %.0f, fp32 %.0f "
      "GFLOP/s.\nWeight [%lld, %lld].\n\n| format | rows | ms | GOP/s | GB/s of weight |\n"
      "|---|---|---|---|---|\n",
      at::get_num_threads(), memory, bf16, fp32, static_cast<long long>(options.out),
      static_cast<long long>(options.in));
}

}  // namespace

int run_bench_kernels(const std::vector<std::string>& args) {
  KernelOptions options;
  const CommandSpec spec{
      .verb = "bench kernels",
      .summary =
          "Times products of few and many rows with frozen weights in bfloat16, int8 and int4: "
          "GFLOP/s (a multiply-add is two) and GB/s of weight, beside what memory and arithmetic "
          "of the machine give.",
      .examples = {
          "OMP_WAIT_POLICY=active llama2zh bench kernels",
          "llama2zh bench kernels --rows 1 8 --formats int8 int4 --in 576 --out 1536 --json"}};
  if (parse_command_line(spec, bind_options(options), args).help) return 0;

  const at::NoGradGuard no_grad;
  print_machine(options);
  for (const std::string& format : options.formats) {
    const Subject subject = make_subject(format, options);
    for (const int64_t rows : options.rows) {
      const at::Tensor x = at::randn({rows, options.in}).to(at::kBFloat16);
      const double seconds = best_seconds(subject, x, options.rounds);
      print_measurement(format, rows, subject.bytes, seconds, options);
    }
  }
  return 0;
}

}  // namespace llama2zh
