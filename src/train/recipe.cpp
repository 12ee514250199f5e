// A training run from top to bottom; the parts are in the other files of this folder.
#include "llama2zh/train/recipe.h"

#include <ATen/Context.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iomanip>
#include <iostream>
#include <random>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/load.h"
#include "llama2zh/distributed/process_group.h"
#include "llama2zh/distributed/rank_environment.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/kernels/product_peak.h"
#include "llama2zh/train/rank_gradients.h"
#include "train/output_folder.h"
#include "train/preference_run.h"
#include "train/rank_random.h"
#include "train/run_inputs.h"

namespace llama2zh {
namespace {

std::string new_run_id() {
  std::random_device device;
  char text[17];
  std::snprintf(text, sizeof text, "%08x%08x", device(), device());
  return text;
}

// The type in which full matrices leave a run.
at::ScalarType result_dtype(const RunConfig& config, const RunInputs& inputs) {
  const std::string& name =
      config.train.save_dtype == "auto" ? inputs.open.config.dtype : config.train.save_dtype;
  if (name == "bfloat16") return at::kBFloat16;
  return name == "float16" ? at::kHalf : at::kFloat;
}

// Writes results and the weights of checkpoints.
class ResultWriter {
 public:
  ResultWriter(const RunConfig& config, RowKind kind, const RunInputs& inputs, Llama& model)
      : config_(&config),
        inputs_(&inputs),
        model_(&model),
        template_(kind == RowKind::kSft ? config.data.chat_template
                                        : inputs.tokenizer.template_name()) {}

  void write(const fs::path& folder, at::ScalarType dtype, bool trained) const {
    if (config_->method == "full") {
      save_model(folder, *model_, &inputs_->tokenizer,
                 {.dtype = dtype, .template_name = template_});
      return;
    }
    write_adapter(folder, adapter(dtype, /*copy=*/false), trained);
  }

  // What trains, in fp32, for a checkpoint.
  WeightsWriter snapshot(bool copy) const {
    if (config_->method == "full") {
      return [this, weights = held_weights(*model_, copy)](const fs::path& folder) {
        save_model(folder, model_->config,
                   [&](const std::string& name) { return weights.at(name); }, &inputs_->tokenizer,
                   {.dtype = at::kFloat, .template_name = template_});
      };
    }
    return [this, held = adapter(at::kFloat, copy)](const fs::path& folder) {
      write_adapter(folder, held, /*trained=*/false);
    };
  }

  Manifest manifest(const std::string& base_identity) const {
    Manifest manifest;
    manifest.kind = config_->method == "full" ? "model" : "adapter";
    manifest.tokenizer_sha256 = inputs_->tokenizer.fingerprint();
    manifest.vocab_size = inputs_->open.config.vocab_size;
    if (config_->method == "lora") manifest.base_identity = base_identity;
    manifest.extra["method"] = config_->method;
    manifest.extra["template"] = template_;
    const LlamaConfig& model = inputs_->open.config;
    if (config_->method == "lora" && model.rope.type != "default") {
      manifest.extra["rope_parameters"] = rope_record(model);
    }
    return manifest;
  }

 private:
  PeftAdapter adapter(at::ScalarType dtype, bool copy) const {
    PeftAdapter adapter = extract_adapter(*model_, config_->lora,
                                          fs::absolute(config_->model.path).string(), dtype, copy);
    if (inputs_->adapter) keep_adapter_config(adapter.config, inputs_->adapter->config);
    return adapter;
  }
  void write_adapter(const fs::path& folder, const PeftAdapter& adapter, bool trained) const {
    write_peft_adapter(folder, adapter, trained);
    inputs_->tokenizer.save(folder, template_);
  }
  // Patterns and regexes of the adapter that was continued say more than our section can.
  static void keep_adapter_config(PeftConfig& config, const PeftConfig& continued) {
    const PeftConfig extracted = config;
    config = continued;
    config.base_model = extracted.base_model;
    config.dropout = extracted.dropout;
    config.modules_to_save = extracted.modules_to_save;
  }
  const RunConfig* config_;
  const RunInputs* inputs_;
  Llama* model_;
  std::string template_;
};

// The folder that was named, if a run can go on from it and nothing newer would shadow it later.
fs::path named_checkpoint(const RunConfig& config) {
  fs::path named = fs::weakly_canonical(config.resume_from);
  const std::vector<CheckpointEntry> entries = list_checkpoints(config.output_dir);
  const auto found = std::find_if(
      entries.begin(), entries.end(),
      [&](const CheckpointEntry& entry) { return fs::weakly_canonical(entry.path) == named; });
  if (found == entries.end()) {
    fail_usage(config.resume_from, cat("not a checkpoint-N folder of ", config.output_dir),
               "name one, or pass --resume to take the newest that is whole");
  }
  if (!has_manifest(named)) {
    fail_format(config.resume_from, "not a complete checkpoint: it has no manifest",
                "pass --resume to take the newest that is whole");
  }
  if (has_manifest(entries.back().path) && entries.back().step > found->step) {
    fail_usage(entries.back().path.string(),
               cat("it is newer than ", config.resume_from, ": a later --resume would take it"),
               "move it away first");
  }
  verify_manifest(named, /*deep=*/true);
  return named;
}

// None: start from the beginning.
std::optional<fs::path> checkpoint_to_resume(const RunConfig& config) {
  if (!config.resume_from.empty()) return named_checkpoint(config);
  if (!config.resume) return std::nullopt;
  const auto newest = newest_valid_checkpoint(config.output_dir);
  if (newest) return newest->path;
  for (const char* result :
       {"adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json"}) {
    if (!fs::exists(fs::path(config.output_dir) / result)) continue;
    fail_usage(
        config.output_dir,
        cat("the run in it has ended (", result, " is there) and left no checkpoint to go on from"),
        "pass --overwrite to train anew, or name another output_dir");
  }
  log_warning(cat(config.output_dir, " has no checkpoint yet: starting from the beginning"));
  return std::nullopt;
}

void check_unchanged(const TrainingState& saved, const TrainingState& now, const RunConfig& config,
                     const fs::path& checkpoint) {
  const auto changed = changed_options(saved, now, config.allow_changed);
  if (changed.empty()) return;
  std::vector<std::string> keys;
  for (const std::string& line : changed) {
    const std::string key = line.substr(0, line.find(':'));
    if (keys.empty() || keys.back() != key) keys.push_back(key);
  }
  fail_usage(checkpoint.string(),
             cat("these options differ from the run to be resumed: ", join(changed, "; ")),
             cat("use the old values, or pass --allow-changed with those of the keys that may "
                 "differ: ",
                 join(keys, " ")));
}

// The same step again is no mistake: a job that is run once more has nothing left to do.
void check_stop(const TrainingState& saved, const RunConfig& config, const fs::path& checkpoint) {
  const int64_t stop = config.train.stop_at_step;
  if (stop == 0 || stop >= saved.step) return;
  fail_usage("train.stop_at_step",
             cat("is ", stop, ", but ", checkpoint.string(), " is beyond it, at step ", saved.step),
             "name a later step or leave it out");
}

TrainingState initial_state(RunConfig& config, const RunInputs& inputs,
                            const std::string& base_identity) {
  TrainingState state;
  state.run_id = new_run_id();
  state.config = to_json(bind_options(config));
  state.identity = {{"data", inputs.data.fingerprint()},
                    {"model", base_identity},
                    {"tokenizer", inputs.tokenizer.fingerprint()}};
  state.data = inputs.data.description();
  return state;
}

// False where train.freeze keeps every B at its zero: that is no sign of a run that failed.
bool trains_lora_b(Llama& model) {
  const std::vector<NamedParameter> trained = trained_parameters(model);
  return std::any_of(trained.begin(), trained.end(), [](const NamedParameter& parameter) {
    return parameter.name.ends_with(".lora_B.weight");
  });
}

std::vector<ValidationSet> validation_sets(const RunConfig& config, RowKind kind,
                                           const RunInputs& inputs) {
  LoaderOptions options = loader_options(config, kind, inputs.tokenizer);
  options.shuffle = false;
  std::vector<ValidationSet> sets;
  for (const RowSet& set : inputs.data.validation) {
    const int64_t characters = kind == RowKind::kPretrain ? set.counts.characters : 0;
    sets.push_back(
        {set.name, BatchLoader(*set.rows, options), set.rows->total_supervised(), characters});
  }
  return sets;
}

// Of one device; what the other ranks' devices can do does not count, since flops are a rank's own.
double peak_flops(const TrainerConfig& config, const Llama& model) {
  if (config.peak_tflops > 0) return config.peak_tflops * 1e12;
  const double peak = measure_product_peak(model.compute_dtype(), model.device());
  log_info(cat("matrix products reach ", std::llround(peak / 1e9), " GFLOP/s in ",
               dtype_name(model.compute_dtype()), "; MFU is the share of that"));
  return peak;
}

std::vector<std::string> set_names(const std::vector<RowSet>& sets) {
  std::vector<std::string> names;
  for (const RowSet& set : sets) names.push_back(set.name);
  return names;
}

void print_summary(const Trainer& trainer, const RunConfig& config) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::cout << "Done: " << trainer.state().step << " steps, "
            << with_thousands(trainer.state().tokens) << " tokens";
  if (trainer.last()) std::cout << ", last loss " << trainer.last()->loss;
  for (const EvalResult& result : trainer.last_evaluation()) {
    std::cout << "; " << result.name << ": loss " << result.loss;
    if (result.metrics.empty()) std::cout << ", perplexity " << result.perplexity();
    for (const auto& [name, value] : result.metrics) std::cout << ", " << name << " " << value;
    if (result.bits_per_character) std::cout << ", bits/character " << *result.bits_per_character;
  }
  std::cout << "; waited for data " << std::setprecision(2) << 100 * trainer.data_wait() << " %";
  std::cout << "; peak memory " << human_bytes(static_cast<uint64_t>(usage.ru_maxrss) * 1024)
            << "\n"
            << (config.method == "full" ? "Model: " : "Adapter: ") << config.output_dir
            << std::endl;
}

// Of several GPUs of a host each rank takes the one with its local number.
void use_device_of_rank(RunConfig& config, const RankEnvironment& environment) {
  if (!environment.distributed()) return;
  const std::string& device = config.model.device;
  const bool cuda = device == "cuda" || (device == "auto" && at::hasCUDA());
  if (cuda) config.model.device = cat("cuda:", environment.local_rank);
}

std::chrono::milliseconds rank_timeout(const RunConfig& config) {
  const std::chrono::duration<double> timeout(config.distributed.timeout_seconds);
  return std::chrono::duration_cast<std::chrono::milliseconds>(timeout);
}

std::unique_ptr<ProcessGroup> meet_other_ranks(const RunConfig& config,
                                               const RankEnvironment& environment,
                                               at::Device device) {
  if (!environment.distributed()) return nullptr;
  return std::make_unique<ProcessGroup>(environment, device, rank_timeout(config));
}

constexpr const char* kWhetherToBegin = "whether to begin, or to stop before the first step";

// For a rank that a signal stopped before it met the others, who wait for it.
void tell_others_of_stop(const RunConfig& config, const RankEnvironment& environment,
                         at::Device device) {
  if (config.plan_only) return;
  if (const auto group = meet_other_ranks(config, environment, device)) {
    group->any(true, kWhetherToBegin);
  }
}

// What has to be the same on all ranks before the weights are loaded.
std::string described_run(const TrainingState& state, const std::optional<fs::path>& checkpoint) {
  ordered_json config = state.config;
  config["model"].erase("device");
  return config.dump() + state.identity.dump() + (checkpoint ? checkpoint->string() : "");
}

}  // namespace

TrainOutcome run_training(RunConfig config, RowKind kind, const SampleGenerator& generate) {
  const StopRequest::Clock::time_point started = StopRequest::Clock::now();
  const StopRequest stop(config.train.max_minutes, started);
  install_stop_signals();
  const RankEnvironment environment = read_rank_environment();
  use_device_of_rank(config, environment);
  check_output_folder(config);
  check_preference(config);
  const Sharding sharding = sharding_of(config.distributed);
  RunInputs inputs = open_inputs(config, kind);
  if (inputs.data.stopped) {
    tell_others_of_stop(config, environment, inputs.device);
    log_info("stopped while the data were prepared");
    return TrainOutcome::kStopped;
  }
  const BestModelRule measurable(config.train, set_names(inputs.data.validation));
  SampleWriter samples(config, kind, inputs.tokenizer, inputs.open.config, generate);
  const BatchLoader loader(inputs.data.mixed_rows(),
                           loader_options(config, kind, inputs.tokenizer));
  if (environment.rank == 0 && sharding.state_device && inputs.device.is_cpu()) {
    log_warning("distributed.offload_optimizer saves nothing on a CPU: it only costs copies");
  }
  if (environment.rank == 0) {
    std::cout << describe(make_plan(config, inputs, loader, environment.world_size)) << std::endl;
  } else {
    set_log_level(LogLevel::kWarning);  // what concerns all ranks says rank 0
  }
  if (config.plan_only) return TrainOutcome::kFinished;

  const std::string& base_identity = inputs.base_identity;
  TrainingState state = initial_state(config, inputs, base_identity);
  if (environment.distributed()) state.identity["ranks"] = environment.world_size;
  const std::optional<fs::path> checkpoint = checkpoint_to_resume(config);
  std::optional<TrainingState> saved;
  if (checkpoint) {
    saved = read_training_state(*checkpoint);
    check_unchanged(*saved, state, config, *checkpoint);
    check_stop(*saved, config, *checkpoint);
  }
  // Of several ranks none may leave alone: they agree on it before the first step.
  if (!environment.distributed() && stop.asked()) {
    log_info(cat("stopped before the first step: ", stop.reason()));
    return TrainOutcome::kStopped;
  }

  const std::unique_ptr<ProcessGroup> group = meet_other_ranks(config, environment, inputs.device);
  if (group) {
    if (group->any(false, kWhetherToBegin)) {
      log_info("stopped: another rank was, while its data were prepared");
      return TrainOutcome::kStopped;
    }
    check_same_on_all_ranks(*group, described_run(state, checkpoint),
                            "the options, data or checkpoint");
  }
  at::manual_seed(static_cast<uint64_t>(config.train.seed));
  const std::unique_ptr<Llama> model = load_for_training(config, inputs);
  const ResultWriter writer(config, kind, inputs, *model);
  std::vector<ValidationSet> validation = validation_sets(config, kind, inputs);
  std::optional<PreferenceRun> preference;
  if (is_preference(config)) preference.emplace(config, validation);
  TrainerParts parts{.model = model.get(),
                     .loader = &loader,
                     .prefetch = config.data.prefetch,
                     .validation = validation,
                     .output_dir = config.output_dir,
                     .weights = [&](bool copy) { return writer.snapshot(copy); },
                     .manifest = writer.manifest(base_identity),
                     .state = state,
                     .started = started,
                     .loss = preference ? &preference->loss() : nullptr,
                     .peak_flops = peak_flops(config.train, *model),
                     .group = group.get(),
                     .sharding = sharding,
                     .timeout = rank_timeout(config)};
  if (!config.train.sample_prompts.empty()) {
    parts.sample = [&](int64_t step, const std::function<bool()>& stopping) {
      samples.write(*model, step, stopping);
    };
  }
  Trainer trainer(std::move(parts), config.train);
  std::optional<FolderLock> lock;  // rank 0 alone writes
  if (environment.rank == 0) {
    lock.emplace(prepare_output_folder(config));
    write_json_file(fs::path(config.output_dir) / "run_config.json", state.config);
  }
  if (preference && !preference->take_reference(config, inputs, *model,
                                                loader_options(config, kind, inputs.tokenizer),
                                                base_identity, group.get())) {
    log_info("stopped; go on with the same command and --resume");
    return TrainOutcome::kStopped;
  }
  if (environment.rank != 0) seed_rank(static_cast<uint64_t>(config.train.seed), environment.rank);
  if (saved) trainer.resume(*checkpoint, *saved);
  if (group) {
    check_same_on_all_ranks(*group, parameters_fingerprint(trained_parameters(*model)),
                            "the weights that train");
  }
  if (environment.rank == 0) samples.open(trainer.state().step);

  if (trainer.run() == TrainOutcome::kStopped) {
    const int64_t stop_at = config.train.stop_at_step;
    const bool there = stop_at > 0 && trainer.state().step >= stop_at;
    log_info(there ? "stopped; go on with --resume and a later train.stop_at_step, or none"
                   : "stopped; go on with the same command and --resume");
    return TrainOutcome::kStopped;
  }
  if (environment.rank != 0) {
    group->barrier("rank 0 writing the result");
    return TrainOutcome::kFinished;
  }
  publish_result(config.output_dir, [&](const fs::path& folder) {
    const bool trained = trainer.state().updates > 0 && trains_lora_b(*model);
    writer.write(folder, result_dtype(config, inputs), trained);
    Manifest manifest = writer.manifest(base_identity);
    manifest.extra["steps"] = trainer.result_step();
    write_manifest(folder, manifest);
  });
  if (config.train.merge_final) write_merged_model(config);
  if (group) group->barrier("rank 0 writing the result");
  print_summary(trainer, config);
  return TrainOutcome::kFinished;
}

}  // namespace llama2zh
