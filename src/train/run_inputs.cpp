// The order is that of cost: names and sizes first, then the rows, the weights last.
#include "train/run_inputs.h"

#include <c10/core/GradMode.h>

#include <algorithm>
#include <set>

#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "llama2zh/model/adapter_base.h"
#include "llama2zh/model/load.h"
#include "llama2zh/model/lora.h"
#include "llama2zh/train/rope_scaling.h"
#include "llama2zh/train/schedule.h"
#include "train/parameter_plan.h"

namespace llama2zh {
namespace {

std::string leaf_module(const std::string& name) {
  const std::vector<std::string> parts = split(name, '.');
  const size_t back = parts.back() == "weight" ? 2 : 1;
  return parts.size() < back ? name : parts[parts.size() - back];
}

// Those of `order` that occur as the last part of a key.
template <typename Map>
std::vector<std::string> modules_in(const Map& map, const std::vector<std::string>& order) {
  std::set<std::string> present;
  for (const auto& [name, value] : map) present.insert(leaf_module(name));
  std::vector<std::string> result;
  for (const std::string& name : order) {
    if (present.count(name) != 0) result.push_back(name);
  }
  return result;
}

void overrule(const char* key, const std::string& ours, const std::string& adapters) {
  if (ours == adapters) return;
  log_warning(cat("lora.", key, ": ", adapters, " as in model.peft_path, not ", ours));
}

// The adapter's shape is a fact; dropout is training's own business.
void take_over_adapter(LoraConfig& lora, PeftAdapter& adapter) {
  const LoraConfig given = lora;
  lora.rank = adapter.config.rank;
  lora.alpha = adapter.config.alpha;
  lora.use_rslora = adapter.config.use_rslora;
  lora.use_dora = adapter.config.use_dora;
  lora.rank_pattern = rank_pattern_texts(adapter.config);
  lora.alpha_pattern = alpha_pattern_texts(adapter.config);
  lora.target_modules = modules_in(adapter.lora, LoraConfig().target_modules);
  lora.modules_to_save = modules_in(adapter.full, {"embed_tokens", "lm_head"});
  overrule("rank", cat(given.rank), cat(lora.rank));
  overrule("alpha", cat(given.alpha), cat(lora.alpha));
  overrule("use_rslora", cat(given.use_rslora), cat(lora.use_rslora));
  overrule("use_dora", cat(given.use_dora), cat(lora.use_dora));
  overrule("rank_pattern", join(given.rank_pattern, ","), join(lora.rank_pattern, ","));
  overrule("alpha_pattern", join(given.alpha_pattern, ","), join(lora.alpha_pattern, ","));
  const auto sorted = [](std::vector<std::string> names) {
    std::sort(names.begin(), names.end());
    return join(names, ",");
  };
  overrule("target_modules", sorted(given.target_modules), sorted(lora.target_modules));
  overrule("modules_to_save", sorted(given.modules_to_save), sorted(lora.modules_to_save));
  adapter.config.dropout = lora.dropout;
}

// Before the weights are loaded; inject_lora() would notice only then.
void check_modules(const std::vector<std::string>& names, const std::vector<std::string>& known,
                   const char* key) {
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    const std::string near = nearest(name, known);
    fail_usage(key, cat("'", name, "' can't be trained; expected some of ", join(known, ", ")),
               near.empty() ? "" : cat("did you mean ", near, "?"));
  }
}

// An adapter that is continued keeps its scaling unless another is asked for.
void scale_positions(const RunConfig& config, LlamaConfig& model) {
  if (!config.model.peft_path.empty()) adopt_rope(config.model.peft_path, model);
  apply_rope_scaling(config.model.rope_scaling, model);
}

void check_lengths(const RunConfig& config, const LlamaConfig& model) {
  if (config.data.block_size <= model.context_length()) return;
  log_warning(cat("data.block_size ", config.data.block_size, " is more than the model's ",
                  model.context_length(), " positions (max_position_embeddings)"));
}

// Masters that were loaded through a narrower type get the stored float32 values.
void refine_masters(Llama& model, const OpenModel& open) {
  const at::NoGradGuard no_grad;
  for (NamedParameter& parameter : trained_parameters(model)) {
    const TensorInfo* stored = open.source->find(parameter.name);
    if (stored == nullptr || stored->dtype != at::kFloat) continue;
    const at::Tensor whole = open.source->load(parameter.name);
    parameter.tensor.copy_(whole.narrow(0, parameter.first_row, parameter.tensor.size(0)));
  }
}

void check_scope(const RunConfig& config, const LlamaConfig& model) {
  if (config.train.first_trained_row >= model.vocab_size) {
    fail_usage("train.first_trained_row",
               cat(config.train.first_trained_row, " is no row of the model, which has ",
                   model.vocab_size),
               "0 trains all rows, 32000 those that extend LLaMA's vocabulary");
  }
  if (planned_parameters(model, config).empty()) {
    fail_usage("train.freeze", "nothing is left to train", "freeze less");
  }
}

// What an epoch takes of each source of a mixture; nothing if there is one source only.
std::vector<SourcePlan> plan_sources(const TrainingData& data, const BatchLoader& loader) {
  std::vector<SourcePlan> plans;
  const auto blocks = loader.sources();
  int64_t all = 0;
  for (const auto& source : blocks) all += source.in_epoch;
  for (size_t i = 0; i < blocks.size() && blocks.size() > 1; ++i) {
    const auto in_epoch = static_cast<double>(blocks[i].in_epoch);
    plans.push_back({data.train[i].set.name, data.train[i].set.rows->total_tokens(),
                     blocks[i].in_epoch, in_epoch / static_cast<double>(all),
                     in_epoch / static_cast<double>(blocks[i].blocks)});
  }
  return plans;
}

}  // namespace

RunInputs open_inputs(RunConfig& config, RowKind kind, const std::function<bool()>& stop) {
  if (config.model.path.empty()) {
    fail_usage("model.path", "no model was named", "set model.path or pass --model.path");
  }
  if (config.method == "full" && !config.model.peft_path.empty()) {
    fail_usage("model.peft_path", "an adapter can't be continued with method full",
               "merge it into the model first");
  }
  if (config.method == "full" && config.train.merge_final) {
    fail_usage("train.merge_final", "method full has no adapter to merge: its result is a model",
               "leave it out");
  }
  if (config.method == "lora") {
    check_modules(config.lora.target_modules, LoraConfig().target_modules, "lora.target_modules");
    check_modules(config.lora.modules_to_save, {"embed_tokens", "lm_head"}, "lora.modules_to_save");
  }
  const at::Device device = parse_device(config.model.device);
  OpenModel open = open_model(config.model.path);
  std::string base_identity = model_identity(open);
  scale_positions(config, open.config);
  const at::ScalarType dtype = parse_dtype(config.model.dtype, open.config, device);
  if (config.model.tokenizer.empty()) config.model.tokenizer = config.model.path;
  Tokenizer tokenizer = load_tokenizer(config.model.tokenizer);
  check_vocabulary(tokenizer, open.config, open.path);
  std::optional<PeftAdapter> adapter;
  if (!config.model.peft_path.empty()) {
    check_adapter_vocabulary(config.model.peft_path, open.config, open.path);
    if (!config.model.allow_other_base) {
      check_adapter_base(
          config.model.peft_path, open.path, [&] { return base_identity; },
          "--model.allow_other_base");
    }
    adapter = read_peft_adapter(config.model.peft_path);
    take_over_adapter(config.lora, *adapter);
  }
  check_scope(config, open.config);
  check_lengths(config, open.config);
  config.model.device = device.str();
  config.model.dtype = dtype_name(dtype);
  TrainingData data = open_training_data(config.data, kind, tokenizer, stop);
  if (!data.stopped && data.total_supervised() == 0) {
    fail_data(join(config.data.train_files, ", "), "no row holds a token to be learned");
  }
  return {
      std::move(open), std::move(base_identity), std::move(adapter), std::move(tokenizer), device,
      dtype,           std::move(data)};
}

LoaderOptions loader_options(const RunConfig& config, RowKind kind, const Tokenizer& tokenizer) {
  LoaderOptions options;
  options.kind = kind;
  options.block_size = config.data.block_size;
  options.micro_batch_size = config.train.micro_batch_size;
  options.packing = config.data.packing;
  options.cross_documents = config.data.cross_documents;
  options.shuffle = config.data.shuffle;
  options.seed = static_cast<uint64_t>(config.train.seed);
  options.pad_id = tokenizer.eos_id();
  return options;
}

TrainingPlan make_plan(const RunConfig& config, const RunInputs& inputs, const BatchLoader& loader,
                       int64_t ranks) {
  const RowCounts counts = inputs.data.counts();
  const StepCount steps(loader, config.train, ranks);
  const auto bytes = static_cast<int64_t>(c10::elementSize(inputs.dtype));
  TrainingPlan plan;
  plan.parameters = inputs.open.config.parameter_count();
  plan.trainable = trainable_parameters(inputs.open.config, config);
  plan.rows = counts.rows;
  plan.tokens = inputs.data.total_tokens();
  plan.characters = counts.characters;
  plan.bad_rows = counts.bad;
  plan.dropped_rows = counts.dropped + counts.filtered + counts.duplicates;
  plan.overlong_rows = counts.overlong;
  plan.sources = plan_sources(inputs.data, loader);
  plan.block_size = config.data.block_size;
  plan.micro_batch_size = config.train.micro_batch_size;
  plan.accumulation = config.train.gradient_accumulation_steps;
  plan.ranks = ranks;
  plan.steps = steps.total();
  plan.steps_in_epoch = steps.steps_in_epoch(0);
  plan.warmup_steps = LearningRate(config.train, steps.total()).warmup_steps();
  plan.save_steps = config.train.save_steps;
  plan.save_in_background = config.train.save_in_background;
  plan.dtype = config.model.dtype;
  plan.device = config.model.device;
  const bool mapped = inputs.device.is_cpu() && config.model.dtype == inputs.open.config.dtype;
  plan.memory = estimate_memory(inputs.open.config, config,
                                {.bytes_per_number = bytes,
                                 .gpu = !inputs.device.is_cpu(),
                                 .mapped = mapped,
                                 .ranks = ranks});
  return plan;
}

std::unique_ptr<Llama> load_for_training(const RunConfig& config, const RunInputs& inputs) {
  std::unique_ptr<Llama> model =
      load_model(inputs.open, inputs.dtype, inputs.device, ModelUse::kTraining);
  const TrainScope scope{config.train.first_trained_row, config.train.freeze};
  if (inputs.adapter) {
    apply_adapter(*model, *inputs.adapter, /*train=*/true, scope);
    return model;
  }
  if (config.method == "full") {
    train_all_parameters(*model, scope);
  } else {
    inject_lora(*model, config.lora, static_cast<uint64_t>(config.train.seed), scope);
  }
  if (inputs.dtype != at::kFloat) refine_masters(*model, inputs.open);
  return model;
}

}  // namespace llama2zh
