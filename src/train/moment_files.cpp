#include "llama2zh/train/moment_files.h"

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstdio>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/safetensors.h"
#include "train/checkpoint_files.h"

namespace llama2zh {
namespace {

constexpr const char* kMomentFilePrefix = "moments-";

// "exp_avg.NAME@512" -> its name and 512; without "@" the moment is whole.
std::pair<std::string, int64_t> moment_and_begin(const std::string& tensor) {
  const size_t mark = tensor.rfind('@');
  if (mark == std::string::npos) return {tensor, 0};
  int64_t begin = 0;
  std::from_chars(tensor.data() + mark + 1, tensor.data() + tensor.size(), begin);
  return {tensor.substr(0, mark), begin};
}

}  // namespace

std::string moment_file_name(int64_t rank, int64_t ranks) {
  char text[64];
  std::snprintf(text, sizeof text, "%s%05" PRId64 "-of-%05" PRId64 ".safetensors",
                kMomentFilePrefix, rank + 1, ranks);
  return text;
}

void write_moments(const fs::path& folder, const MomentShard& shard) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const HeldMoment& moment : shard.moments) {
    tensors.emplace_back(cat(moment.name, "@", moment.begin), moment.values);
  }
  write_safetensors(folder / moment_file_name(shard.rank, shard.ranks), tensors);
}

MomentFiles::MomentFiles(const fs::path& checkpoint) : folder_(checkpoint.string()) {
  sources_.push_back(open_safetensors(checkpoint / kStateTensorsFile));
  for (const auto& entry : fs::directory_iterator(checkpoint)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kMomentFilePrefix) && name.ends_with(".safetensors")) {
      sources_.push_back(open_safetensors(entry.path()));
    }
  }
  for (const auto& source : sources_) {
    for (const TensorInfo& info : source->tensors()) {
      if (!info.name.starts_with("exp_avg")) continue;
      const auto [moment, begin] = moment_and_begin(info.name);
      parts_[moment].push_back({begin, info.numel(), source.get(), info.name});
    }
  }
  for (auto& [name, parts] : parts_) {
    std::sort(parts.begin(), parts.end(),
              [](const Part& a, const Part& b) { return a.begin < b.begin; });
  }
}

const std::vector<MomentFiles::Part>& MomentFiles::parts_of(const HeldMoment& moment) const {
  const auto found = parts_.find(moment.name);
  if (found == parts_.end()) {
    fail_format(folder_, cat("it has no moment '", moment.name, "'"),
                "resume with the checkpoint's own options");
  }
  int64_t end = 0;
  for (const Part& part : found->second) {
    if (part.begin != end) {
      fail_format(folder_, cat("elements of '", moment.name, "' from ", end, " on are missing"),
                  "it needs the moments-*.safetensors of all ranks");
    }
    end += part.count;
  }
  if (end != moment.whole) {
    fail_format(folder_,
                cat("'", moment.name, "' has ", end, " elements, this run's has ", moment.whole),
                "resume with the checkpoint's own options and the files of all ranks");
  }
  return found->second;
}

void MomentFiles::read(const HeldMoment& moment) const {
  const at::Tensor target = moment.values.view(-1);
  const int64_t last = moment.begin + target.size(0);
  for (const Part& part : parts_of(moment)) {
    const int64_t begin = std::max(part.begin, moment.begin);
    const int64_t end = std::min(part.begin + part.count, last);
    if (begin >= end) continue;
    const at::Tensor stored = part.source->load(part.tensor);
    if (stored.scalar_type() != target.scalar_type()) {
      fail_format(part.source->describe(),
                  cat("'", moment.name, "' has another type than this run's moment"),
                  "resume with the checkpoint's own options");
    }
    target.narrow(0, begin - moment.begin, end - begin)
        .copy_(stored.view(-1).narrow(0, begin - part.begin, end - begin));
  }
}

}  // namespace llama2zh
