#pragma once

#include <cstdint>

namespace llama2zh {

// Which instructions our own kernels use. The best this processor has, or what the environment
// variable LLAMA2ZH_ISA names (portable, avx2, avx512) where the processor has that too.
enum class Isa { kPortable, kAvx2, kAvx512 };
Isa kernel_isa();
// Whether this processor has it.
bool has_isa(Isa isa);
// Intel's tiles (CPUID 7.0, EDX: tiles 24, bfloat16 22, int8 25). Whether the system lets a process
// use them is another question.
bool has_amx_bf16();
bool has_amx_int8();

// Runs `body()`, everything in it inlined and compiled for the instruction set that kernel_isa()
// says. The body must not call what is not inline.
#if defined(__x86_64__)
template <typename Body>
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"), gnu::flatten]] void run_avx512(
    const Body& body) {
  body();
}
template <typename Body>
[[gnu::target("avx2,fma"), gnu::flatten]] void run_avx2(const Body& body) {
  body();
}
template <typename Body>
void run_with_isa(const Body& body) {
  switch (kernel_isa()) {
    case Isa::kAvx512:
      return run_avx512(body);
    case Isa::kAvx2:
      return run_avx2(body);
    case Isa::kPortable:
      return body();
  }
}
#else
template <typename Body>
void run_with_isa(const Body& body) {
  body();
}
#endif

}  // namespace llama2zh
