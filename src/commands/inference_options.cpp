#include "commands/inference_options.h"

#include <filesystem>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {

LoadRequest InferenceOptions::request(const std::string& template_name) const {
  LoadRequest out;
  out.model = model;
  for (const std::string& text : adapter) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos || text.find('/') < equals || std::filesystem::exists(text)) {
      out.adapters.emplace_back(text);
    } else {
      out.named_adapters.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  out.tokenizer = tokenizer;
  out.template_name = template_name;
  out.dtype = dtype;
  out.device = device;
  out.allow_other_base = allow_other_base;
  return out;
}

LoadRequest InferenceOptions::plain_request(const std::string& template_name) const {
  LoadRequest out = request(template_name);
  if (out.named_adapters.empty()) return out;
  const auto& [name, folder] = out.named_adapters.front();
  fail_usage("adapter",
             cat("\"", name, "=", folder.string(),
                 "\" keeps the adapter beside the model for requests that name it, and none does "
                 "here: the model without it would be measured"),
             cat("put it on the model: --adapter ", folder.string()));
}

void SpeculationOptions::apply(EngineConfig& config, LoadRequest& request) const {
  if (draft_model.empty()) return;
  if (config.speculate == "lookup")
    fail_usage("speculate", "lookup needs no draft_model", "leave one of them out");
  config.speculate = "draft";
  request.draft_model = draft_model;
}

std::string draft_report(int64_t drafted, int64_t accepted) {
  if (drafted == 0) return "";
  return cat(", ", accepted, " of ", drafted, " guessed tokens were right");
}

OptionTable join_tables(const std::vector<OptionTable>& tables) {
  OptionTable out;
  for (const OptionTable& table : tables) out.insert(out.end(), table.begin(), table.end());
  return out;
}

const ChatTemplate& require_template(const LoadedModel& loaded, const std::string& model_path,
                                     const std::string& otherwise) {
  if (loaded.chat_template != nullptr) return *loaded.chat_template;
  fail_usage(model_path, "neither model nor tokenizer names a chat template that is known here",
             cat("name the one it was trained with by --template (",
                 join(ChatTemplate::names(), ", "), ")", otherwise));
}

}  // namespace llama2zh
