#include "train/result_writer.h"

#include "llama2zh/formats/peft.h"

namespace llama2zh {
namespace {

// Patterns and regexes of the adapter that was continued say more than our section can.
void keep_adapter_config(PeftConfig& config, const PeftConfig& continued) {
  const PeftConfig extracted = config;
  config = continued;
  config.base_model = extracted.base_model;
  config.dropout = extracted.dropout;
  config.modules_to_save = extracted.modules_to_save;
}

}  // namespace

at::ScalarType result_dtype(const RunConfig& config, const RunInputs& inputs) {
  const std::string& name =
      config.train.save_dtype == "auto" ? inputs.open.config.dtype : config.train.save_dtype;
  if (name == "bfloat16") return at::kBFloat16;
  return name == "float16" ? at::kHalf : at::kFloat;
}

ResultWriter::ResultWriter(const RunConfig& config, RowKind kind, const RunInputs& inputs,
                           Llama& model)
    : config_(&config),
      inputs_(&inputs),
      model_(&model),
      template_(kind == RowKind::kSft ? config.data.chat_template
                                      : inputs.tokenizer.template_name()) {}

void ResultWriter::write(const fs::path& folder, at::ScalarType dtype, bool trained) const {
  if (config_->method == "full") {
    save_model(folder, *model_, &inputs_->tokenizer,
               {.dtype = dtype, .template_name = template_, .manifest = false});
    return;
  }
  write_adapter(folder, adapter(dtype, /*copy=*/false), trained);
}

WeightsWriter ResultWriter::snapshot(bool copy) const {
  if (config_->method == "full") {
    return [this, weights = held_weights(*model_, copy)](const fs::path& folder) {
      save_model(folder, model_->config, [&](const std::string& name) { return weights.at(name); },
                 &inputs_->tokenizer,
                 {.dtype = at::kFloat, .template_name = template_, .manifest = false});
    };
  }
  return [this, held = adapter(at::kFloat, copy)](const fs::path& folder) {
    write_adapter(folder, held, /*trained=*/false);
  };
}

Manifest ResultWriter::manifest(const std::string& base_identity) const {
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

PeftAdapter ResultWriter::adapter(at::ScalarType dtype, bool copy) const {
  PeftAdapter adapter = extract_adapter(*model_, config_->lora,
                                        fs::absolute(config_->model.path).string(), dtype, copy);
  if (inputs_->adapter) keep_adapter_config(adapter.config, inputs_->adapter->config);
  return adapter;
}

void ResultWriter::write_adapter(const fs::path& folder, const PeftAdapter& adapter,
                                 bool trained) const {
  write_peft_adapter(folder, adapter, trained);
  inputs_->tokenizer.save(folder, template_);
}

}  // namespace llama2zh
