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
#include "train/rank_start.h"
#include "train/result_writer.h"
#include "train/resume_point.h"
#include "train/run_inputs.h"

namespace llama2zh {
namespace {

std::string new_run_id() {
  std::random_device device;
  char text[17];
  std::snprintf(text, sizeof text, "%08x%08x", device(), device());
  return text;
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
  RunInputs inputs = open_inputs(config, kind, [&] { return stop.asked(); });
  if (inputs.data.stopped) {
    tell_others_of_stop(config, environment, inputs.device);
    log_info(cat("stopped while the data were prepared: ", stop.reason(),
                 "; the same command goes on from there"));
    return TrainOutcome::kStopped;
  }
  const BestModelRule measurable(config.train, set_names(inputs.data.validation));
  SampleWriter samples(config, kind, inputs.tokenizer, inputs.open.config, generate);
  const BatchLoader loader(inputs.data.mixed_rows(),
                           loader_options(config, kind, inputs.tokenizer));
  if (environment.rank == 0 && sharding.state_device && inputs.device.is_cpu()) {
    log_warning("distributed.offload_optimizer saves nothing on a CPU: it only costs copies");
  }
  warn_of_shared_cores(environment, inputs.device);
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
