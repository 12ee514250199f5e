#include "serve/served_model.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "llama2zh/base/text.h"
#include "serve/api_error.h"

namespace llama2zh {

ServedModel::ServedModel(LoadedModel model, const EngineConfig& engine_config,
                         const ServeConfig& serve_config, std::string model_name,
                         std::string folder, Metrics& counters,
                         std::function<void(std::function<void()>)> post_work)
    : config(serve_config),
      name(std::move(model_name)),
      root(std::move(folder)),
      created(std::time(nullptr)),
      metrics(&counters),
      post(std::move(post_work)),
      max_running(engine_config.max_running),
      loaded(std::move(model)),
      admission(engine_config.max_running + config.max_queue_requests, config.max_queue_tokens),
      engine(*loaded.model, *loaded.tokenizer, engine_config, loaded.parts()),
      thread(engine) {
  for (int64_t id = 0; id < loaded.tokenizer->vocab_size(); ++id)
    longest_piece =
        std::max(longest_piece, loaded.tokenizer->piece(static_cast<TokenId>(id)).size());
}

void ServedModel::check_size(size_t bytes, const char* param) const {
  const auto most = static_cast<size_t>(context() + 1) * longest_piece;
  if (bytes <= most) return;
  throw ApiFailure({400,
                    cat("this model's maximum context length is ", context(), " tokens; a text of ",
                        bytes, " bytes has more"),
                    param, "context_length_exceeded", 0});
}

std::string ServedModel::adapter_of(const std::optional<std::string>& asked) const {
  if (!asked || asked->empty() || *asked == name) return "";
  std::vector<std::string> names = loaded.adapters->names();
  for (const std::string& adapter : names)
    if (adapter == *asked) return adapter;
  names.insert(names.begin(), name);
  throw ApiFailure({404,
                    cat("the model `", *asked, "` does not exist; there are: ", join(names, ", ")),
                    "model", "model_not_found", 0});
}

const ChatTemplate& ServedModel::chat_template() const {
  if (loaded.chat_template == nullptr)
    refuse_field("messages",
                 "this model has no chat template that is known here; start the server with "
                 "--template, or use /v1/completions");
  return *loaded.chat_template;
}

}  // namespace llama2zh
