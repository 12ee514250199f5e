#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace llama2zh {

// A tensor as the pickle describes it. Numbers are the file's claims; only their signs are checked.
struct PickledTensor {
  std::string name;
  at::ScalarType dtype = at::kFloat;
  std::string storage;         // key of its bytes: entry data/KEY
  uint64_t storage_bytes = 0;  // that the pickle says the storage has
  int64_t storage_offset = 0;  // in elements
  std::vector<int64_t> shape, strides;
};

// Reads data.pkl of a torch.save archive whose top level is a dict of tensors. Knows the opcodes
// that such files need and nothing else; calls nothing: the few names of torch that may occur are
// recognised, every other one is refused (kFormat naming `where`) as soon as it is read. Memory is
// bounded by a small multiple of the pickle's size, which may be at most kMaxPickle.
std::vector<PickledTensor> unpickle_tensors(std::string_view pickle, std::string_view where);

inline constexpr size_t kMaxPickle = size_t{1} << 24;

}  // namespace llama2zh
