// checkpoint-N/
//   adapter_config.json, adapter_model.safetensors   (method lora) or model*.safetensors,
//   config.json (method full): the trained weights in fp32, usable as they are
//   tokenizer files
//   state.safetensors     exp_avg.NAME, exp_avg_sq.NAME, random.cpu, random.cuda
//   moments-0000r-of-0000N.safetensors   (distributed.zero_stage 1, 2) instead of the exp_avg above,
//   by rank r - 1: exp_avg.NAME@BEGIN, the flattened moment's elements from BEGIN on
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
#include "train/shard_meeting.h"

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
          {"guard",
           {{"before", or_null(state.guard.before)},
            {"now", or_null(state.guard.now)},
            {"since", state.guard.since},
            {"set", state.guard.set}}},
          {"loss_scale", state.loss_scale.scale},
          {"loss_scale_good_steps", state.loss_scale.good_steps},
          {"tokens", state.tokens},
          {"supervised_tokens", state.supervised},
          {"run_id", state.run_id},
          {"identity", state.identity},
          {"config", state.config},
          {"data", state.data}};
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
  if (snapshot.shard) {
    uint64_t own = 0;
    for (const HeldMoment& moment : snapshot.shard->moments) own += moment.values.nbytes();
    bytes += own * static_cast<uint64_t>(snapshot.shard->ranks);
  }
  return bytes + bytes / 2;  // the weights are half of their moments
}

at::Tensor held(const at::Tensor& tensor, bool copy) {
  if (!copy) return tensor.detach();
  return tensor.is_cpu() ? tensor.detach().clone() : tensor.detach().to(at::kCPU);
}

fs::path write_folder(const fs::path& output_dir, const Snapshot& snapshot,
                      const std::function<bool()>& give_up) {
  const TrainingState& state = snapshot.state;
  const std::shared_ptr<StagedFolder> folder =
      snapshot.folder ? snapshot.folder : begin_checkpoint(output_dir, state);
  StagedFolder& staged = *folder;
  check_free_space(output_dir, bytes_of(snapshot));
  reach_checkpoint_point("begun");
  snapshot.write_weights(staged.path());
  reach_checkpoint_point("weights");
  write_safetensors(staged.path() / kStateTensorsFile, snapshot.tensors);
  if (snapshot.shard) leave_shard(staged.path(), *snapshot.shard);
  reach_checkpoint_point("state");
  write_json_file(staged.path() / kRunStateFile, state_to_json(state));
  write_file_atomic(staged.path() / kTrainerStateFile, snapshot.trainer_state);
  if (snapshot.shard) {
    wait_for_shards(staged.path(), snapshot.shard->ranks, give_up, snapshot.patience);
  }
  Manifest manifest = snapshot.manifest;
  manifest.kind = "checkpoint";
  manifest.extra["step"] = state.step;
  manifest.extra["run_id"] = state.run_id;
  write_manifest(staged.path(), manifest);
  reach_checkpoint_point("manifest");
  staged.commit();
  reach_checkpoint_point("committed");
  return output_dir / cat(kCheckpointPrefix, state.step);
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

void take_tensors(Snapshot& snapshot, const ShardedAdamW& optimizer, const ProcessGroup* group,
                  bool copy) {
  std::vector<HeldMoment> moments = optimizer.state();
  for (HeldMoment& moment : moments) moment.values = held(moment.values, copy);
  if (optimizer.is_sharded()) {
    snapshot.shard = group == nullptr
                         ? MomentShard{0, 1, std::move(moments)}
                         : MomentShard{group->rank(), group->size(), std::move(moments)};
  } else {
    for (HeldMoment& moment : moments) snapshot.tensors.emplace_back(moment.name, moment.values);
  }
  snapshot.tensors.emplace_back("random.cpu", random_state(at::kCPU));
  const at::Device device = device_of(optimizer);
  if (!device.is_cpu()) snapshot.tensors.emplace_back("random.cuda", random_state(device));
}

std::shared_ptr<StagedFolder> begin_checkpoint(const fs::path& output_dir,
                                               const TrainingState& state) {
  const fs::path target = output_dir / cat(kCheckpointPrefix, state.step);
  try {
    refuse_foreign(target, state.run_id);
    return std::make_shared<StagedFolder>(target, Existing::kReplace);
  } catch (const fs::filesystem_error& error) {
    fail_io(error.path1().string(), "the checkpoint can't be begun", error.code().value());
  }
}

uint64_t checkpoint_bytes(const ShardedAdamW& optimizer) {
  uint64_t bytes = kSmallFiles;
  for (const NamedParameter& parameter : optimizer.parameters()) {
    bytes += parameter.tensor.nbytes();
  }
  for (const HeldMoment& moment : optimizer.state()) bytes += moment.values.nbytes();
  return bytes;
}

fs::path write_checkpoint(const fs::path& output_dir, const Snapshot& snapshot,
                          const std::function<bool()>& give_up) {
  try {
    if (snapshot.shard && snapshot.shard->rank != 0) {
      leave_shard(partial_checkpoint(output_dir, snapshot.state.step), *snapshot.shard);
      return {};
    }
    return write_folder(output_dir, snapshot, give_up);
  } catch (const fs::filesystem_error& error) {
    fail_io(error.path1().string(), "the checkpoint can't be written", error.code().value());
  }
}

}  // namespace llama2zh
