// checkpoint-N/
//   adapter_config.json, adapter_model.safetensors   (method lora) or model*.safetensors,
//   config.json (method full): the trained weights in fp32, usable as they are
//   tokenizer files
//   state.safetensors     exp_avg.NAME, exp_avg_sq.NAME, random.cpu, random.cuda
//   trainer_state.json    step, cursor into the data, options, fingerprints
//   llama2zh_manifest.json   written last: sizes and checksums of all of the above
#include "llama2zh/train/checkpoint.h"

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <charconv>
#include <mutex>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/formats/safetensors.h"

namespace llama2zh {
namespace {

constexpr const char* kStateFile = "state.safetensors";
constexpr const char* kStateJson = "trainer_state.json";
constexpr const char* kPrefix = "checkpoint-";

at::Tensor random_state(at::Device device) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_random_state(at::Device device, const at::Tensor& state) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state.clone());
}

at::Device device_of(const AdamW& optimizer) {
  return optimizer.parameters().empty() ? at::Device(at::kCPU)
                                        : optimizer.parameters()[0].tensor.device();
}

ordered_json state_to_json(const TrainingState& state) {
  return {{"global_step", state.step},
          {"epoch", state.epoch},
          {"batch_index", state.batch_index},
          {"updates", state.updates},
          {"loss_scale", state.loss_scale.scale},
          {"loss_scale_good_steps", state.loss_scale.good_steps},
          {"tokens", state.tokens},
          {"supervised_tokens", state.supervised},
          {"run_id", state.run_id},
          {"identity", state.identity},
          {"config", state.config}};
}

// kIo-free look at a folder's run id; "" where it can't be read.
std::string run_id_of(const fs::path& checkpoint) {
  try {
    return read_training_state(checkpoint).run_id;
  } catch (const Error&) {
    return "";
  }
}

void save_state(const fs::path& folder, const TrainingState& state, const AdamW& optimizer) {
  auto tensors = optimizer.state();
  tensors.emplace_back("random.cpu", random_state(at::kCPU));
  const at::Device device = device_of(optimizer);
  if (!device.is_cpu()) tensors.emplace_back("random.cuda", random_state(device));
  write_safetensors(folder / kStateFile, tensors);
  write_json_file(folder / kStateJson, state_to_json(state));
}

uint64_t checkpoint_bytes(const AdamW& optimizer) {
  uint64_t bytes = 1 << 20;
  for (const NamedParameter& p : optimizer.parameters()) {
    bytes += 3 * static_cast<uint64_t>(p.tensor.nbytes());
  }
  return bytes;
}

}  // namespace

std::vector<CheckpointEntry> list_checkpoints(const fs::path& output_dir) {
  std::vector<CheckpointEntry> entries;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output_dir, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix) || !entry.is_directory()) continue;
    const char* end = name.data() + name.size();
    int64_t step = 0;
    const auto [rest, code] = std::from_chars(name.data() + std::string(kPrefix).size(), end, step);
    if (code == std::errc() && rest == end && step >= 0) entries.push_back({step, entry.path()});
  }
  std::sort(entries.begin(), entries.end(),
            [](const CheckpointEntry& a, const CheckpointEntry& b) { return a.step < b.step; });
  return entries;
}

std::optional<CheckpointEntry> newest_valid_checkpoint(const fs::path& output_dir) {
  std::vector<CheckpointEntry> entries = list_checkpoints(output_dir);
  if (entries.empty()) return std::nullopt;
  std::reverse(entries.begin(), entries.end());
  for (const CheckpointEntry& entry : entries) {
    try {
      if (!has_manifest(entry.path)) {
        fail_format(entry.path.string(), cat("it has no ", kManifestName, ": not complete"));
      }
      verify_manifest(entry.path, /*deep=*/true);
      return entry;
    } catch (const Error& problem) {
      log_warning(cat("checkpoint not used: ", problem.what()));
    }
  }
  fail_format(output_dir.string(),
              cat("none of its ", entries.size(), " checkpoints is complete and unchanged"),
              "start again with --overwrite");
}

fs::path save_checkpoint(const fs::path& output_dir, const TrainingState& state,
                         const AdamW& optimizer, const WeightsWriter& write_weights,
                         Manifest manifest) {
  fs::path target = output_dir / cat(kPrefix, state.step);
  if (fs::exists(target / kStateJson)) {
    const std::string owner = run_id_of(target);
    if (!owner.empty() && owner != state.run_id) {
      fail_usage(target.string(), "another run's checkpoint has this name",
                 "train into another output_dir");
    }
  }
  check_free_space(output_dir, checkpoint_bytes(optimizer));
  StagedFolder staged(target, Existing::kReplace);
  write_weights(staged.path());
  save_state(staged.path(), state, optimizer);
  manifest.kind = "checkpoint";
  manifest.extra["step"] = state.step;
  manifest.extra["run_id"] = state.run_id;
  write_manifest(staged.path(), manifest);
  staged.commit();
  return target;
}

TrainingState read_training_state(const fs::path& checkpoint) {
  const fs::path file = checkpoint / kStateJson;
  const ordered_json value = read_ordered_json_file(file);
  TrainingState state;
  try {
    state.step = value.at("global_step").get<int64_t>();
    state.epoch = value.at("epoch").get<int64_t>();
    state.batch_index = value.at("batch_index").get<int64_t>();
    state.updates = value.at("updates").get<int64_t>();
    state.loss_scale.scale = value.at("loss_scale").get<double>();
    state.loss_scale.good_steps = value.at("loss_scale_good_steps").get<int64_t>();
    state.tokens = value.at("tokens").get<int64_t>();
    state.supervised = value.at("supervised_tokens").get<int64_t>();
    state.run_id = value.at("run_id").get<std::string>();
    state.identity = value.at("identity");
    state.config = value.at("config");
  } catch (const nlohmann::json::exception& error) {
    fail_format(file.string(), cat("not a training state: ", error.what()),
                "expected a checkpoint that llama2zh wrote");
  }
  return state;
}

void restore_checkpoint(const fs::path& checkpoint, const TrainingState& state, AdamW& optimizer) {
  const at::NoGradGuard no_grad;
  const bool adapter = is_peft_folder(checkpoint);
  const auto weights =
      open_tensors(adapter ? checkpoint / "adapter_model.safetensors" : checkpoint);
  for (const NamedParameter& parameter : optimizer.parameters()) {
    const std::string name = (adapter ? "base_model.model." : "") + parameter.name;
    const TensorInfo& info = weights->require(name);
    if (info.shape != parameter.tensor.sizes().vec()) {
      fail_format(weights->describe(), cat("'", name, "' has another shape than this run's"),
                  "resume with the checkpoint's own options");
    }
    at::Tensor(parameter.tensor).copy_(weights->load(name));
  }
  const auto moments = open_safetensors(checkpoint / kStateFile);
  optimizer.load_state(*moments, state.updates);
  set_random_state(at::kCPU, moments->load(moments->require("random.cpu").name));
  const at::Device device = device_of(optimizer);
  if (device.is_cpu()) return;
  if (moments->find("random.cuda") != nullptr) {
    set_random_state(device, moments->load("random.cuda"));
  } else {
    log_warning("the checkpoint was written on a CPU: dropout continues from another random state");
  }
}

void rotate_checkpoints(const fs::path& output_dir, const std::string& run_id, int64_t keep,
                        int64_t newest) {
  if (keep <= 0) return;
  std::vector<CheckpointEntry> ours;
  for (const CheckpointEntry& entry : list_checkpoints(output_dir)) {
    if (entry.step <= newest && run_id_of(entry.path) == run_id) ours.push_back(entry);
  }
  for (size_t i = 0; i + static_cast<size_t>(keep) < ours.size(); ++i) {
    std::error_code error;
    fs::remove_all(ours[i].path, error);
    if (error) {
      log_warning(cat(ours[i].path.string(), ": can't be removed: ", error.message()));
    }
  }
}

}  // namespace llama2zh
