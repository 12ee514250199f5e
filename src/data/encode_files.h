#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "data/row_encoder.h"

namespace llama2zh {

// Chunks are consecutive rows of a file, always the same ones: what one thread encodes at a time, and
// the unit in which work that was interrupted is resumed.
struct ChunkPlace {
  size_t file = 0;
  int64_t chunk = 0;  // in the file
};

struct EncodedChunk {
  ChunkPlace place;
  bool ends_file = false;
  uint64_t consumed = 0;    // bytes of the file used up to the chunk's end
  uint64_t text_bytes = 0;  // of its rows
  std::vector<EncodedRow> rows;
  std::exception_ptr file_error;  // the file can't be read beyond these rows
};

// Reads the files from `start` on in one thread, encodes chunks in `threads` others and hands them to
// `take`, in this thread and in the files' order, so that the number of threads changes nothing. A
// few chunks a thread are in memory at most. Ends when all are taken, when `take` returns false, or
// when it throws. Errors other than those of rows and files are thrown.
void encode_files(const std::vector<std::string>& files, ChunkPlace start,
                  const RowEncoder& encoder, int64_t threads,
                  const std::function<bool(EncodedChunk& chunk)>& take);

}  // namespace llama2zh
