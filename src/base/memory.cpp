// /proc/self/maps: "begin-end perms offset device inode path", see proc(5); inode 0 is no file.
// Lines of /proc/self/status: VmRSS (now), VmHWM (peak), RssFile (mapped files), in KiB. Writing 5
// to /proc/self/clear_refs sets VmHWM back to VmRSS. See proc(5).
#include "llama2zh/base/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "llama2zh/base/text.h"

// jemalloc's, where the program is linked with it.
extern "C" [[gnu::weak]] int mallctl(const char* name, void* old_value, size_t* old_size,
                                     void* new_value, size_t new_size);

namespace llama2zh {
namespace {

struct Mapping {
  uintptr_t begin = 0, end = 0;
  bool read_only_file = false;
};

Mapping parse_mapping(const std::string& line) {
  std::istringstream fields(line);
  std::string permissions, offset, device;
  char dash = 0;
  uint64_t inode = 0;
  Mapping mapping;
  fields >> std::hex >> mapping.begin >> dash >> mapping.end >> permissions >> offset >> device >>
      std::dec >> inode;
  mapping.read_only_file = fields && inode != 0 && permissions.starts_with("r-");
  return mapping;
}

}  // namespace

ProcessMemory process_memory() {
  ProcessMemory memory;
  std::ifstream status("/proc/self/status");
  std::string key;
  while (status >> key) {
    uint64_t* const value = key == "VmRSS:"     ? &memory.resident
                            : key == "VmHWM:"   ? &memory.peak
                            : key == "RssFile:" ? &memory.file
                                                : nullptr;
    uint64_t kibibytes = 0;
    if (value != nullptr && status >> kibibytes) *value = kibibytes * 1024;
    status.ignore(1 << 16, '\n');
  }
  return memory;
}

bool reset_peak_memory() {
  std::ofstream refs("/proc/self/clear_refs");
  return static_cast<bool>(refs << "5" << std::flush);
}

void release_file_pages(const void* begin, uint64_t bytes) {
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(begin);
  const uintptr_t from = (first + page - 1) / page * page, to = (first + bytes) / page * page;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const Mapping mapping = parse_mapping(line);
    const uintptr_t low = std::max(from, mapping.begin), high = std::min(to, mapping.end);
    if (!mapping.read_only_file || low >= high) continue;
    ::madvise(reinterpret_cast<void*>(low), high - low, MADV_DONTNEED);
  }
}

void give_back_freed_memory() {
  if (mallctl == nullptr) return;
  std::ptrdiff_t milliseconds = 1000;
  unsigned arenas = 0;
  size_t size = sizeof arenas;
  mallctl("arenas.narenas", &arenas, &size, nullptr, 0);
  std::vector<std::string> names = {"arenas."};  // of those to come
  for (unsigned i = 0; i < arenas; ++i) names.push_back(cat("arena.", i, "."));
  for (const std::string& name : names) {
    for (const char* kind : {"dirty_decay_ms", "muzzy_decay_ms"})
      mallctl((name + kind).c_str(), nullptr, nullptr, &milliseconds, sizeof milliseconds);
  }
}

}  // namespace llama2zh
