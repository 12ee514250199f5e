// The mask: element i survives where hash(i, seed) >= p 2^32, with a 32-bit mixer after MurmurHash3's
// finaliser, the two halves of the mixed seed entering at different rounds.
#include "llama2zh/kernels/dropout.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <mutex>

#include "kernels/lanes.h"

namespace llama2zh {
namespace {

constexpr int64_t kDroppedAtOnce = 16384;  // of a thread

struct MaskHash {
  uint32_t low, high, threshold;
  float scale;
  // The sixteen factors (0 or scale) of elements first, first + 1, ...
  lanes::Floats factors(uint32_t first) const {
    const lanes::Words ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    lanes::Words h = (ramp + first + low) * 0x9E3779B1u;
    h ^= h >> 16;
    h = h * 0x85EBCA6Bu ^ high;
    h ^= h >> 13;
    h *= 0xC2B2AE35u;
    h ^= h >> 15;
    h *= 0x27D4EB2Fu;
    h ^= h >> 16;
    const lanes::Floats kept = lanes::spread(scale), dropped{};
    return h >= threshold ? kept : dropped;
  }
};

// SplitMix64's finaliser: seeds that are neighbours become words that are not.
uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

// y = mask * x / (1 - p), or y += it.
template <bool kAdd, typename T>
void drop(const MaskHash& hash, const T* x, T* y, int64_t n) {
  at::parallel_for(0, n, kDroppedAtOnce, [&](int64_t begin, int64_t end) {
    run_with_isa([&] {
      lanes::for_lanes(end - begin, [&](int64_t offset, int64_t count) {
        const int64_t i = begin + offset;
        lanes::Floats value =
            lanes::load_up_to(x + i, count) * hash.factors(static_cast<uint32_t>(i));
        if constexpr (kAdd) value += lanes::load_up_to(y + i, count);
        lanes::store_up_to(y + i, value, count);
      });
    });
  });
}

template <bool kAdd>
void drop_tensor(double p, uint64_t seed, const at::Tensor& x, at::Tensor& y) {
  TORCH_CHECK(HashedDropout::supports(x) && y.is_contiguous() && x.sizes() == y.sizes() &&
                  x.scalar_type() == y.scalar_type(),
              "HashedDropout: expected contiguous float32 or bfloat16 tensors on the CPU");
  const uint64_t mixed = mix(seed);
  const MaskHash hash{static_cast<uint32_t>(mixed), static_cast<uint32_t>(mixed >> 32),
                      static_cast<uint32_t>(std::lround(p * 4294967295.0)),
                      static_cast<float>(1 / (1 - p))};
  if (x.scalar_type() == at::kFloat) {
    drop<kAdd>(hash, x.const_data_ptr<float>(), y.data_ptr<float>(), x.numel());
  } else {
    drop<kAdd>(hash, x.const_data_ptr<c10::BFloat16>(), y.data_ptr<c10::BFloat16>(), x.numel());
  }
}

}  // namespace

HashedDropout::HashedDropout(double p, uint64_t seed) : p_(p), seed_(seed) {
  TORCH_CHECK(p >= 0 && p < 1, "HashedDropout: p must be in [0, 1)");
}

HashedDropout HashedDropout::draw(double p) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return {p, at::check_generator<at::CPUGeneratorImpl>(generator)->random64()};
}

bool HashedDropout::supports(const at::Tensor& x) {
  return x.is_cpu() && x.is_contiguous() && x.numel() <= (int64_t{1} << 32) &&
         (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
}

at::Tensor HashedDropout::apply(const at::Tensor& x) const {
  at::Tensor y = at::empty_like(x);
  drop_tensor<false>(p_, seed_, x, y);
  return y;
}

void HashedDropout::add_to(at::Tensor& total, const at::Tensor& x) const {
  drop_tensor<true>(p_, seed_, x, total);
}

}  // namespace llama2zh
