// Lines of /proc/self/status: VmRSS (now), VmHWM (peak), RssFile (mapped files), in KiB. Writing 5
// to /proc/self/clear_refs sets VmHWM back to VmRSS. See proc(5).
#include "llama2zh/base/memory.h"

#include <fstream>
#include <string>

namespace llama2zh {

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

}  // namespace llama2zh
