#pragma once

#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace llama2zh {

// The arguments as operator<< writes them, joined: cat("expected ", n, " rows").
template <typename... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::vector<std::string> split(std::string_view text, char separator);
std::string_view trim(std::string_view text);

// 1234567 -> "1,234,567".
std::string with_thousands(int64_t n);
// 1536 -> "1.5 KiB".
std::string human_bytes(uint64_t bytes);
// The double nearest to `value` with so many decimals (negative: rounded to tens, hundreds): prints
// short.
double rounded(double value, int decimals);
// 3725.0 -> "1:02:05".
std::string human_duration(double seconds);

// The candidate nearest to `word` by edit distance if it is near enough to be a likely slip, else
// "".
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace llama2zh
