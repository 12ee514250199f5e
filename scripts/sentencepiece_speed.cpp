// How fast the sentencepiece library alone encodes a file's lines: scripts/bench_prepare.sh compiles and runs it.
// usage: sentencepiece_speed MODEL FILE THREADS; prints seconds and tokens. The file is in memory before the clock starts.
#include <sentencepiece_processor.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  sentencepiece::SentencePieceProcessor processor;
  if (!processor.Load(argv[1]).ok()) return 1;
  std::ostringstream bytes;
  bytes << std::ifstream(argv[2], std::ios::binary).rdbuf();
  const std::string text = bytes.str();
  std::vector<std::string_view> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(std::string_view(text).substr(at, end - at));
    at = end + 1;
  }
  constexpr size_t kAtOnce = 256;
  std::atomic<size_t> next{0}, tokens{0};
  const auto encode = [&] {
    std::vector<int> ids;
    for (size_t from = next.fetch_add(kAtOnce); from < lines.size(); from = next.fetch_add(kAtOnce)) {
      size_t count = 0;
      for (size_t i = from; i < std::min(from + kAtOnce, lines.size()); ++i) {
        if (!processor.Encode(lines[i], &ids).ok()) std::abort();
        count += ids.size();
      }
      tokens += count;
    }
  };
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> threads;
  for (int i = 0; i < std::atoi(argv[3]); ++i) threads.emplace_back(encode);
  for (std::thread& thread : threads) thread.join();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%.3f %zu\n", seconds, tokens.load());
}
