#pragma once

#include <cstdint>

namespace llama2zh {

// Memory of this process in bytes, as the kernel counts it. Mapped files count as far as they are
// in memory, though other processes may share them.
struct ProcessMemory {
  uint64_t resident = 0;  // now
  uint64_t peak = 0;      // the most it was since the start, or since reset_peak_memory()
  uint64_t file = 0;      // of `resident`: pages of mapped files
};
ProcessMemory process_memory();

// The peak begins anew from what is resident now. False where the kernel does not offer it
// (/proc/self/clear_refs); the peak stays that of the whole process then.
bool reset_peak_memory();

// Takes the whole pages of a mapped file in [begin, begin + bytes) out of this process; they come
// back from the file when they are read again. Memory that is not a read-only file's is left alone.
void release_file_pages(const void* begin, uint64_t bytes);

// From now on freed memory goes back to the system within a second. The program's allocator else keeps
// it (src/app/allocator.cpp), which is right for training and not for a long walk over many rows. Does
// nothing under another allocator.
void give_back_freed_memory();

}  // namespace llama2zh
