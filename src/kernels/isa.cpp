#include "kernels/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <string>

#include "kernels/amx_tiles.h"
#include "llama2zh/base/error.h"

namespace llama2zh {
namespace {

Isa best_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kPortable;
}

Isa chosen_isa() {
  const char* wanted = std::getenv("LLAMA2ZH_ISA");
  const Isa best = best_isa();
  if (wanted == nullptr || *wanted == '\0') return best;
  const std::string name = wanted;
  const Isa isa = name == "avx512" ? Isa::kAvx512 : name == "avx2" ? Isa::kAvx2 : Isa::kPortable;
  if (isa == Isa::kPortable && name != "portable") {
    fail_usage("LLAMA2ZH_ISA", "'" + name + "': expected portable, avx2 or avx512");
  }
  if (isa > best) fail_usage("LLAMA2ZH_ISA", "this processor has no " + name);
  return isa;
}

constexpr unsigned kTiles = 1u << 24, kTilesOfBf16 = 1u << 22, kTilesOfInt8 = 1u << 25;

// Whether all of these bits of CPUID 7.0's EDX are set.
bool has_features(unsigned bits) {
#if defined(__x86_64__)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & bits) == bits;
#else
  return bits == 0;
#endif
}

}  // namespace

bool has_amx_bf16() { return has_features(kTiles | kTilesOfBf16); }
bool has_amx_int8() { return has_features(kTiles | kTilesOfInt8); }

#if defined(__x86_64__)
bool may_use_amx() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h
  static const bool may = ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return may;
}
#endif

bool has_isa(Isa isa) { return isa <= best_isa(); }

Isa kernel_isa() {
  static const Isa isa = chosen_isa();
  return isa;
}

}  // namespace llama2zh
