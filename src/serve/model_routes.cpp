// GET /v1/models, POST /tokenize and /detokenize (formats.md 5.1), and adapters that come and go.
#include "serve/model_routes.h"

#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/text.h"
#include "serve/answer_fields.h"
#include "serve/api_error.h"
#include "serve/chat_route.h"

namespace llama2zh {
namespace {

void respond(const std::shared_ptr<HttpExchange>& exchange, const json& body) {
  exchange->respond({200,
                     "application/json",
                     body.dump(-1, ' ', false, json::error_handler_t::replace) + "\n",
                     {}});
}

json model_entry(const ServedModel& model, const std::string& adapter) {
  const bool base = adapter.empty();
  return {{"id", base ? model.name : adapter},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "llama2zh"},
          {"root", base ? model.root : adapter},
          {"parent", base ? json() : json(model.name)},
          {"max_model_len", model.context()}};
}

}  // namespace

void serve_models(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  json data = json::array({model_entry(model, "")});
  for (const std::string& name : model.loaded.adapters->names())
    data.push_back(model_entry(model, name));
  respond(exchange, {{"object", "list"}, {"data", std::move(data)}});
}

void serve_one_model(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  const std::string& path = exchange->request().path;
  respond(exchange, model_entry(model, model.adapter_of(path.substr(sizeof("/v1/models/") - 1))));
}

void serve_tokenize(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const BodyFields fields(body);
  const Tokenizer& tokenizer = *model.loaded.tokenizer;
  std::vector<TokenId> ids;
  if (const json* messages = fields.any("messages"); messages != nullptr) {
    const std::vector<Message> read = messages_of(*messages);
    for (const Message& message : read) model.check_size(message.content.size(), "messages");
    ids = model.chat_template().encode_prompt(tokenizer, read);
  } else {
    const std::optional<std::string> prompt = fields.text("prompt");
    if (!prompt) fields.refuse("prompt", "is missing, and so is messages");
    ids = ids_of_text(*prompt, model, fields.flag("add_special_tokens").value_or(true));
  }
  json out = {{"tokens", ids}, {"count", ids.size()}, {"max_model_len", model.context()}};
  if (fields.flag("return_token_strs").value_or(false)) {
    out["token_strs"] = json::array();
    for (const TokenId id : ids) out["token_strs"].push_back(tokenizer.piece(id));
  }
  respond(exchange, out);
}

void serve_detokenize(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const BodyFields fields(body);
  const auto ids = fields.integers("tokens", 1 << 20);
  if (!ids) fields.refuse("tokens", "is missing");
  respond(exchange,
          {{"prompt", model.loaded.tokenizer->decode(checked_ids(*ids, model, "tokens"))}});
}

void serve_load_adapter(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const BodyFields fields(body);
  const std::optional<std::string> name = fields.text("lora_name"), path = fields.text("lora_path");
  if (!name || name->empty() || *name == model.name)
    fields.refuse("lora_name", "is missing or the model's own name");
  if (!path || path->empty()) fields.refuse("lora_path", "is missing");
  try {
    model.loaded.adapters->put(*name, *path);
  } catch (const Error& error) {
    refuse_field("lora_path", error.what());  // the engine goes on with those that it has
  }
  log_info(cat("adapter ", *name, " loaded from ", *path));
  respond(exchange, model_entry(model, *name));
}

void serve_unload_adapter(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const BodyFields fields(body);
  const std::optional<std::string> name = fields.text("lora_name");
  if (!name) fields.refuse("lora_name", "is missing");
  if (!model.loaded.adapters->remove(*name))
    throw ApiFailure(
        {404, cat("there is no adapter `", *name, "`"), "lora_name", "model_not_found", 0});
  log_info(cat("adapter ", *name, " removed"));
  respond(exchange, {{"removed", *name}});
}

}  // namespace llama2zh
