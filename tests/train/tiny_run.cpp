#include "train/tiny_run.h"

#include <ATen/Context.h>

#include <cstring>

#include "llama2zh/base/file.h"
#include "llama2zh/base/random.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/model/load.h"

namespace llama2zh {
namespace {

constexpr int64_t kBlock = 16;

LoaderOptions tiny_loader_options(const TinyOptions& options) {
  LoaderOptions loader;
  loader.kind = RowKind::kSft;
  loader.block_size = kBlock;
  loader.micro_batch_size = options.micro_batch_size;
  loader.packing = options.packing;
  loader.seed = 5;
  return loader;
}

}  // namespace

TrainerConfig tiny_trainer_config() {
  TrainerConfig config;
  config.micro_batch_size = 1;
  config.gradient_accumulation_steps = 4;
  config.max_steps = 20;
  config.learning_rate = 5e-3;
  config.warmup_steps = 2;
  config.weight_decay = 0.1;
  config.head_chunk_rows = 8;
  return config;
}

LlamaConfig tiny_model_config() {
  LlamaConfig config;
  config.vocab_size = 48;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 4;
  config.max_position_embeddings = 64;
  config.initializer_range = 0.2;
  return config;
}

TokenRows random_rows(int64_t count, int64_t vocab_size, int64_t longest) {
  Random random(11);
  TokenRows rows;
  for (int64_t i = 0; i < count; ++i) {
    const size_t length = 4 + random.below(static_cast<uint64_t>(longest - 3));
    std::vector<TokenId> ids(length);
    std::vector<uint8_t> supervised(length, 1);
    for (TokenId& id : ids) {
      id = static_cast<TokenId>(random.below(static_cast<uint64_t>(vocab_size)));
    }
    supervised[0] = supervised[1] = 0;
    rows.add(ids, supervised);
  }
  return rows;
}

TinyRun::TinyRun(const TinyOptions& options, const std::filesystem::path& output_dir)
    : rows_(random_rows(options.rows, tiny_model_config().vocab_size, kBlock)),
      loader_(rows_, tiny_loader_options(options)) {
  at::manual_seed(3);
  LlamaConfig config = tiny_model_config();
  config.vocab_size = options.vocab_size;
  config.tie_word_embeddings = options.tied;
  if (options.wide) {
    config.hidden_size = 128;
    config.head_dim = 32;
  }
  model_ = random_model(config, 7, at::kFloat, at::kCPU);
  lora_ = options.lora;
  lora_.rank = 4;
  lora_.dropout = options.dropout;
  if (options.full) {
    train_all_parameters(*model_, options.scope);
  } else {
    inject_lora(*model_, lora_, 9, options.scope);
  }
  TrainerParts parts;
  parts.model = model_.get();
  parts.loader = &loader_;
  parts.group = options.group;
  parts.loss = options.loss;
  parts.sharding = options.sharding;
  parts.output_dir = output_dir;
  parts.weights = [this, options](bool copy) -> WeightsWriter {
    if (options.full) {
      return [weights = held_weights(*model_, copy), this](const fs::path& folder) {
        const auto weight = [&](const std::string& name) { return weights.at(name); };
        save_model(folder, model_->config, weight, nullptr, {.manifest = false});
      };
    }
    return [adapter = extract_adapter(*model_, lora_, "base", at::kFloat, copy)](
               const fs::path& folder) { write_peft_adapter(folder, adapter, false); };
  };
  parts.started = options.started;
  parts.before_step = options.before_step;
  if (options.held_out_rows > 0) {
    const TokenRows rows =
        random_rows(options.rows + options.held_out_rows, config.vocab_size, kBlock);
    for (int64_t row = options.rows; row < rows.size();
         ++row) {  // those that training does not see
      held_out_.add(rows.ids(row), rows.supervised(row));
    }
    parts.validation.push_back({"held_out", BatchLoader(held_out_, tiny_loader_options(options)),
                                held_out_.total_supervised(), 0});
  }
  parts.state.run_id = "tiny";
  parts.state.config = {{"method", "lora"}, {"lora", {{"rank", lora_.rank}}}};
  parts.state.identity = {{"data", "rows"}};
  trainer_ = std::make_unique<Trainer>(std::move(parts), options.train);
}

std::vector<std::pair<std::string, at::Tensor>> TinyRun::everything() {
  std::vector<std::pair<std::string, at::Tensor>> result;
  for (const HeldMoment& moment : trainer_->runner().optimizer().state()) {
    result.emplace_back(moment.name, moment.values);
  }
  for (const NamedParameter& parameter : trained_parameters(*model_)) {
    result.emplace_back(parameter.name, parameter.tensor.detach());
  }
  return result;
}

bool bit_equal(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const at::Tensor x = a.contiguous(), y = b.contiguous();
  return std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

std::vector<json> read_log(const std::filesystem::path& output_dir) {
  std::vector<json> lines;
  for (const std::string& line : split(read_file(output_dir / "trainer_log.jsonl"), '\n')) {
    if (!line.empty()) lines.push_back(json::parse(line));
  }
  return lines;
}

}  // namespace llama2zh
