// Finding, reading and removing checkpoints; what is in one is said in checkpoint_write.cpp.
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
#include "llama2zh/base/reason.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/formats/safetensors.h"
#include "train/checkpoint_files.h"

namespace llama2zh {
namespace {

void set_random_state(at::Device device, const at::Tensor& state) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state.clone());
}

std::optional<double> optional_number(const ordered_json& value) {
  return value.is_null() ? std::nullopt : std::optional<double>(value.get<double>());
}

BestModel best_from_json(const ordered_json& value) {
  BestModel best;
  best.loss = optional_number(value.at("loss"));
  best.step = value.at("step").get<int64_t>();
  best.checkpoint_loss = optional_number(value.at("checkpoint_loss"));
  best.checkpoint = value.at("checkpoint").get<int64_t>();
  best.without_improvement = value.at("without_improvement").get<int64_t>();
  return best;
}

// Renamed first: a crash halfway must not leave a checkpoint-N with files missing.
void remove_checkpoint(const fs::path& checkpoint) {
  fs::path doomed = checkpoint;
  doomed += kPartialSuffix;
  std::error_code error;
  fs::remove_all(doomed, error);
  fs::rename(checkpoint, doomed, error);
  if (!error) fs::remove_all(doomed, error);
  if (error)
    log_warning(cat(checkpoint.string(), ": can't be removed: ", system_reason(error.value())));
}

}  // namespace

std::string run_id_of(const fs::path& checkpoint) {
  try {
    return read_training_state(checkpoint).run_id;
  } catch (const Error&) {
    return "";
  }
}

at::Device device_of(const ShardedAdamW& optimizer) {
  return optimizer.parameters().empty() ? at::Device(at::kCPU)
                                        : optimizer.parameters()[0].tensor.device();
}

at::Tensor random_state(at::Device device) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

fs::path partial_checkpoint(const fs::path& output_dir, int64_t step) {
  return output_dir / cat(kCheckpointPrefix, step, kPartialSuffix);
}

std::vector<CheckpointEntry> list_checkpoints(const fs::path& output_dir) {
  std::vector<CheckpointEntry> entries;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(output_dir, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kCheckpointPrefix) || !entry.is_directory()) continue;
    const char* end = name.data() + name.size();
    int64_t step = 0;
    const auto [rest, code] =
        std::from_chars(name.data() + std::string(kCheckpointPrefix).size(), end, step);
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

TrainingState read_training_state(const fs::path& checkpoint) {
  const fs::path file = checkpoint / kRunStateFile;
  const ordered_json value = read_ordered_json_file(file);
  TrainingState state;
  try {
    state.step = value.at("global_step").get<int64_t>();
    state.epoch = value.at("epoch").get<int64_t>();
    state.batch_index = value.at("batch_index").get<int64_t>();
    state.updates = value.at("updates").get<int64_t>();
    state.nonfinite = value.at("nonfinite_steps").get<int64_t>();
    state.evaluated = value.at("evaluated_step").get<int64_t>();
    state.best = best_from_json(value.at("best"));
    const ordered_json guard = value.value("guard", ordered_json::object());  // none in older ones
    if (guard.contains("before")) {
      state.guard = {optional_number(guard.at("before")), optional_number(guard.at("now")),
                     guard.value("since", int64_t{0}), guard.value("set", std::string())};
    }
    state.loss_scale.scale = value.at("loss_scale").get<double>();
    state.loss_scale.good_steps = value.at("loss_scale_good_steps").get<int64_t>();
    state.tokens = value.at("tokens").get<int64_t>();
    state.supervised = value.at("supervised_tokens").get<int64_t>();
    state.run_id = value.at("run_id").get<std::string>();
    state.identity = value.at("identity");
    state.config = value.at("config");
    state.data = value.value("data", ordered_json());
  } catch (const nlohmann::json::exception& error) {
    fail_format(file.string(), cat("not a training state: ", error.what()),
                "expected a checkpoint that llama2zh wrote");
  }
  return state;
}

void restore_weights(const fs::path& checkpoint, ShardedAdamW& optimizer) {
  const at::NoGradGuard no_grad;
  const bool adapter = is_peft_folder(checkpoint);
  const auto weights =
      open_tensors(adapter ? checkpoint / "adapter_model.safetensors" : checkpoint);
  for (const NamedParameter& parameter : optimizer.parameters()) {
    const std::string name = (adapter ? "base_model.model." : "") + parameter.name;
    const TensorInfo& info = weights->require(name);
    std::vector<int64_t> whole = parameter.tensor.sizes().vec();
    whole[0] += parameter.first_row;
    if (info.shape != whole) {
      fail_format(weights->describe(), cat("'", name, "' has another shape than this run's"),
                  "resume with the checkpoint's own options");
    }
    const at::Tensor rows =
        weights->load(name).narrow(0, parameter.first_row, parameter.tensor.size(0));
    at::Tensor(parameter.tensor).copy_(rows);
  }
}

void restore_checkpoint(const fs::path& checkpoint, const TrainingState& state,
                        ShardedAdamW& optimizer) {
  restore_weights(checkpoint, optimizer);
  const at::NoGradGuard no_grad;
  optimizer.load_state(MomentFiles(checkpoint), state.updates);
  const auto random = open_safetensors(checkpoint / kStateTensorsFile);
  set_random_state(at::kCPU, random->load(random->require("random.cpu").name));
  const at::Device device = device_of(optimizer);
  if (device.is_cpu()) return;
  if (random->find("random.cuda") != nullptr) {
    set_random_state(device, random->load("random.cuda"));
  } else {
    log_warning("the checkpoint was written on a CPU: dropout continues from another random state");
  }
}

void rotate_checkpoints(const fs::path& output_dir, const std::string& run_id, int64_t keep,
                        int64_t newest, int64_t best) {
  if (keep <= 0) return;
  std::vector<CheckpointEntry> ours;
  for (const CheckpointEntry& entry : list_checkpoints(output_dir)) {
    if (entry.step <= newest && run_id_of(entry.path) == run_id) ours.push_back(entry);
  }
  auto count = static_cast<int64_t>(ours.size());
  for (const CheckpointEntry& entry : ours) {
    if (count <= keep) break;
    if (entry.step == newest || entry.step == best) continue;
    remove_checkpoint(entry.path);
    reach_checkpoint_point("rotated");
    --count;
  }
}

}  // namespace llama2zh
