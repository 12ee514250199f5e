// checkpoint-N/
//   adapter_config.json, adapter_model.safetensors   (method lora) or model*.safetensors,
//   config.json (method full): the trained weights in fp32, usable as they are
//   tokenizer files
//   state.safetensors     exp_avg.NAME, exp_avg_sq.NAME, random.cpu, random.cuda
//   run_state.json        step, cursor into the data, options, fingerprints
//   trainer_state.json    what Hugging Face's Trainer would say; read back by other programs only.
//                         TrainerState.load_from_json() takes no key of ours, hence two files
//   llama2zh_manifest.json   written last: sizes and checksums of all of the above
#include <c10/core/GradMode.h>

#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/safetensors.h"
#include "llama2zh/train/checkpoint.h"
#include "train/checkpoint_files.h"

namespace llama2zh {
namespace {

constexpr uint64_t kSmallFiles = 1 << 20;

std::function<void(std::string_view)>& checkpoint_hook() {
  static std::function<void(std::string_view)> hook;
  return hook;
}

ordered_json or_null(const std::optional<double>& number) {
  return number ? ordered_json(*number) : ordered_json(nullptr);
}

ordered_json best_to_json(const BestModel& best) {
  return {{"loss", or_null(best.loss)},
          {"step", best.step},
          {"checkpoint_loss", or_null(best.checkpoint_loss)},
          {"checkpoint", best.checkpoint},
          {"without_improvement", best.without_improvement}};
}

ordered_json state_to_json(const TrainingState& state) {
  return {{"global_step", state.step},
          {"epoch", state.epoch},
          {"batch_index", state.batch_index},
          {"updates", state.updates},
          {"nonfinite_steps", state.nonfinite},
          {"evaluated_step", state.evaluated},
          {"best", best_to_json(state.best)},
          {"loss_scale", state.loss_scale.scale},
          {"loss_scale_good_steps", state.loss_scale.good_steps},
          {"tokens", state.tokens},
          {"supervised_tokens", state.supervised},
          {"run_id", state.run_id},
          {"identity", state.identity},
          {"config", state.config}};
}

void refuse_foreign(const fs::path& target, const std::string& run_id) {
  if (!fs::exists(target / kRunStateFile)) return;
  const std::string owner = run_id_of(target);
  if (owner.empty() || owner == run_id) return;
  fail_usage(target.string(), "another run's checkpoint has this name",
             "train into another output_dir");
}

uint64_t bytes_of(const Snapshot& snapshot) {
  uint64_t bytes = kSmallFiles;
  for (const auto& entry : snapshot.tensors) bytes += entry.second.nbytes();
  return bytes + bytes / 2;  // the weights are half of their moments
}

at::Tensor held(const at::Tensor& tensor, bool copy) {
  if (!copy) return tensor.detach();
  return tensor.is_cpu() ? tensor.detach().clone() : tensor.detach().to(at::kCPU);
}

fs::path write_folder(const fs::path& output_dir, const Snapshot& snapshot) {
  const TrainingState& state = snapshot.state;
  fs::path target = output_dir / cat(kCheckpointPrefix, state.step);
  refuse_foreign(target, state.run_id);
  check_free_space(output_dir, bytes_of(snapshot));
  StagedFolder staged(target, Existing::kReplace);
  reach_checkpoint_point("begun");
  snapshot.write_weights(staged.path());
  reach_checkpoint_point("weights");
  write_safetensors(staged.path() / kStateTensorsFile, snapshot.tensors);
  reach_checkpoint_point("state");
  write_json_file(staged.path() / kRunStateFile, state_to_json(state));
  write_file_atomic(staged.path() / kTrainerStateFile, snapshot.trainer_state);
  Manifest manifest = snapshot.manifest;
  manifest.kind = "checkpoint";
  manifest.extra["step"] = state.step;
  manifest.extra["run_id"] = state.run_id;
  write_manifest(staged.path(), manifest);
  reach_checkpoint_point("manifest");
  staged.commit();
  reach_checkpoint_point("committed");
  return target;
}

}  // namespace

void set_checkpoint_hook(std::function<void(std::string_view point)> hook) {
  checkpoint_hook() = std::move(hook);
}

void reach_checkpoint_point(std::string_view point) {
  if (checkpoint_hook()) checkpoint_hook()(point);
}

std::map<std::string, at::Tensor> held_weights(Llama& model, bool copy) {
  std::map<std::string, at::Tensor> weights;
  model.for_each_weight([&](const std::string& name, const at::Tensor& tensor) {
    weights[name] = held(tensor, copy && tensor.requires_grad());
  });
  if (model.embed_tokens_rows.defined()) {
    weights["model.embed_tokens.weight"] = whole_embedding(model, at::kFloat);
  }
  if (model.lm_head_rows.defined() && !model.config.tie_word_embeddings) {
    weights["lm_head.weight"] = whole_head(model, at::kFloat);
  }
  return weights;
}

std::vector<std::pair<std::string, at::Tensor>> snapshot_tensors(const AdamW& optimizer,
                                                                 bool copy) {
  auto tensors = optimizer.state();
  for (auto& entry : tensors) entry.second = held(entry.second, copy);
  tensors.emplace_back("random.cpu", random_state(at::kCPU));
  const at::Device device = device_of(optimizer);
  if (!device.is_cpu()) tensors.emplace_back("random.cuda", random_state(device));
  return tensors;
}

uint64_t checkpoint_bytes(const AdamW& optimizer) {
  uint64_t bytes = kSmallFiles;
  for (const NamedParameter& parameter : optimizer.parameters()) {
    bytes += parameter.tensor.nbytes();
  }
  for (const auto& entry : optimizer.state()) bytes += entry.second.nbytes();
  return bytes;
}

fs::path write_checkpoint(const fs::path& output_dir, const Snapshot& snapshot) {
  try {
    return write_folder(output_dir, snapshot);
  } catch (const fs::filesystem_error& error) {
    fail_io(error.path1().string(), "the checkpoint can't be written", error.code().value());
  }
}

}  // namespace llama2zh
