// Each rank drops other elements, from a generator of its own.
#include "train/rank_random.h"

#include <ATen/Context.h>
#include <ATen/core/Generator.h>

#include <mutex>

#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/safetensors.h"
#include "train/checkpoint_files.h"

namespace llama2zh {
namespace {

constexpr uint64_t kSeedsApart = 1000003;

void set_rank_random(at::Device device, const at::Tensor& state) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state.clone());
}

}  // namespace

std::vector<std::pair<std::string, at::Tensor>> random_of_other_ranks(ProcessGroup& group,
                                                                      at::Device device) {
  std::vector<std::pair<std::string, at::Tensor>> result;
  std::vector<std::pair<std::string, at::Device>> generators{{"random.cpu.", at::kCPU}};
  if (device.is_cuda()) generators.emplace_back("random.cuda.", device);
  for (const auto& [name, of] : generators) {
    const at::Tensor all = group.gather(random_state(of), "the random states for a checkpoint");
    if (!all.defined()) continue;
    for (int64_t rank = 1; rank < group.size(); ++rank) {
      result.emplace_back(cat(name, rank), all[rank].clone());
    }
  }
  return result;
}

void restore_rank_random(const std::filesystem::path& checkpoint, int64_t rank, at::Device device) {
  const auto states = open_safetensors(checkpoint / kStateTensorsFile);
  const std::string cpu = cat("random.cpu.", rank), cuda = cat("random.cuda.", rank);
  if (states->find(cpu) == nullptr) {
    log_warning(cat("the checkpoint is of fewer ranks: dropout of rank ", rank, " starts anew"));
    return;
  }
  set_rank_random(at::kCPU, states->load(cpu));
  if (device.is_cuda() && states->find(cuda) != nullptr) {
    set_rank_random(device, states->load(cuda));
  }
}

void seed_rank(uint64_t seed, int64_t rank) {
  at::manual_seed(seed + static_cast<uint64_t>(rank) * kSeedsApart);
}

}  // namespace llama2zh
