// POST /v1/chat/completions (formats.md 5.2 to 5.4).
#include "serve/chat_route.h"

#include <map>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "serve/answer_fields.h"
#include "serve/answer_texts.h"
#include "serve/answering.h"
#include "serve/api_error.h"

namespace llama2zh {
namespace {

Role role_of(const std::string& name, const std::string& where) {
  if (name == "system" || name == "developer") return Role::kSystem;
  if (name == "user") return Role::kUser;
  if (name == "assistant") return Role::kAssistant;
  refuse_field(where,
               cat(where, " is \"", name, "\", expected system, developer, user or assistant"));
}

std::string content_of(const BodyFields& message, const std::string& where) {
  const json* content = message.any("content");
  if (content == nullptr) return "";
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) message.refuse("content", "is neither a text nor a list of parts");
  std::string out;
  for (const json& part : *content) {
    if (!part.is_object() || part.value("type", json()) != "text" ||
        !part.value("text", json()).is_string())
      refuse_field(where, cat(where, " has a part that is no {\"type\": \"text\", \"text\": ...}: ",
                              "this model reads texts only"));
    if (!out.empty()) out += "\n";
    out += part["text"].get<std::string>();
  }
  return out;
}

class ChatFormat final : public AnswerFormat {
 public:
  ChatFormat(const ServedModel& model, std::string name, AnswerFields asked)
      : tokenizer_(model.loaded.tokenizer.get()),
        asked_(std::move(asked)),
        id_(answer_id("chatcmpl-", asked_.request_id)),
        name_(std::move(name)),
        logprobs_(asked_.request.logprobs >= 0) {}

  json whole(const std::vector<RequestResult>& results) override {
    json choices = json::array();
    const std::vector<Completion>& completions = results.front().completions;
    for (size_t i = 0; i < completions.size(); ++i) {
      json logprobs = nullptr;
      if (logprobs_) {
        logprobs = {{"content", json::array()}, {"refusal", nullptr}};
        for (const SampledToken& token : completions[i].tokens)
          logprobs["content"].push_back(logprob_entry(token));
      }
      choices.push_back(
          {{"index", i},
           {"message",
            {{"role", "assistant"}, {"content", completions[i].text}, {"refusal", nullptr}}},
           {"logprobs", logprobs},
           {"finish_reason", finish_reason_of(completions[i].finish_reason)},
           {"stop_reason", stop_reason_of(completions[i], asked_.request.sampling)}});
      if (asked_.token_ids) choices.back()["token_ids"] = all_ids(completions[i]);
    }
    json out = head("chat.completion");
    if (asked_.token_ids) out["prompt_token_ids"] = asked_.request.prompt;
    out["choices"] = std::move(choices);
    out["usage"] = usage_of(results);
    return out;
  }

  json opening(size_t, int64_t answer) override {
    json out = chunk(answer, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
    if (asked_.token_ids) out["prompt_token_ids"] = asked_.request.prompt;
    return out;
  }

  json piece(size_t, const RequestEvent& event) override {
    const bool has_token = event.token != nullptr;
    made_[event.index] += has_token ? 1 : 0;
    const bool tells_token = has_token && (logprobs_ || asked_.token_ids);
    if (event.text.empty() && event.finish_reason.empty() && !tells_token) return nullptr;
    json delta = json::object();
    if (!event.text.empty() || tells_token) delta["content"] = event.text;
    json logprobs = nullptr;
    if (has_token && logprobs_)
      logprobs = {{"content", json::array({logprob_entry(*event.token)})}, {"refusal", nullptr}};
    json out = chunk(event.index, std::move(delta), std::move(logprobs),
                     finish_reason_of(event.finish_reason));
    add_event_details(out["choices"][0], event, asked_);
    return out;
  }

  json summary(const std::vector<RequestResult>& results) override {
    if (!asked_.include_usage) return nullptr;
    json out = head("chat.completion.chunk");
    out["choices"] = json::array();
    out["usage"] = usage_of(results);
    return out;
  }

 private:
  json head(const char* object) const {
    return {{"id", id_},
            {"object", object},
            {"created", created_},
            {"model", name_},
            {"system_fingerprint", nullptr}};
  }
  json chunk(int64_t answer, json delta, json logprobs, json finish_reason) {
    json out = head("chat.completion.chunk");
    out["choices"] = json::array({{{"index", answer},
                                   {"delta", std::move(delta)},
                                   {"logprobs", std::move(logprobs)},
                                   {"finish_reason", std::move(finish_reason)}}});
    if (asked_.continuous_usage)
      out["usage"] = usage_so_far(std::ssize(asked_.request.prompt), made_[answer]);
    else if (asked_.include_usage)
      out["usage"] = nullptr;
    return out;
  }
  json token_entry(TokenId id, double logprob) const {
    json bytes = json::array();
    for (const char c : tokenizer_->bytes_of(id)) bytes.push_back(static_cast<unsigned char>(c));
    return {{"token", token_text(*tokenizer_, id)},
            {"logprob", shown_logprob(logprob)},
            {"bytes", std::move(bytes)}};
  }
  json logprob_entry(const SampledToken& token) const {
    json out = token_entry(token.id, token.logprob);
    out["top_logprobs"] = json::array();
    for (const TokenLogprob& top : token.top)
      out["top_logprobs"].push_back(token_entry(top.id, top.logprob));
    return out;
  }

  const Tokenizer* tokenizer_;
  AnswerFields asked_;
  std::string id_, name_;
  int64_t created_ = unix_seconds();
  bool logprobs_;
  std::map<int64_t, int64_t> made_;  // tokens of each answer so far
};

}  // namespace

std::vector<Message> messages_of(const json& list) {
  if (!list.is_array() || list.empty())
    refuse_field("messages", "messages is no list with at least one message");
  std::vector<Message> out;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string where = cat("messages[", i, "]");
    if (!list[i].is_object()) refuse_field(where, cat(where, " is no object"));
    const BodyFields message(list[i], where + ".");
    const std::optional<std::string> role = message.text("role");
    if (!role) message.refuse("role", "is missing");
    out.push_back({role_of(*role, where + ".role"), content_of(message, where + ".content")});
  }
  return out;
}

void serve_chat(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const BodyFields fields(body);
  refuse_prompt_fields(fields);
  AnswerFields read = read_answer_fields(fields, model, exchange->request().body);
  Request& request = read.request;
  const int64_t most = most_new_tokens(model);
  const std::optional<int64_t> newer = fields.integer("max_completion_tokens", 1, most);
  const std::optional<int64_t> older = fields.integer("max_tokens", 1, most);
  request.sampling.max_new_tokens = newer ? *newer : older.value_or(most);
  const int64_t top = fields.integer("top_logprobs", 0, 20).value_or(0);
  if (fields.flag("logprobs").value_or(false))
    request.logprobs = top;
  else if (top > 0)
    fields.refuse("top_logprobs", "needs logprobs = true");

  const json* messages = fields.any("messages");
  if (messages == nullptr) fields.refuse("messages", "is missing");
  const ChatTemplate& chat_template = model.chat_template();
  try {
    const std::vector<Message> read_messages = messages_of(*messages);
    size_t bytes = 0;
    for (const Message& message : read_messages) bytes += message.content.size();
    model.check_size(bytes, "messages");
    request.prompt = chat_template.encode_prompt(*model.loaded.tokenizer, read_messages);
  } catch (const Error& error) {
    refuse_field("messages", error.what());
  }
  request.extra_stops = chat_template.stop_texts();
  truncate_prompt(request.prompt, read.truncate, 1, model);
  check_prompt_length(request.prompt, 1, model, "messages");
  AnswerJob job;
  job.stream = read.stream;
  job.requests.push_back(request);
  job.format = std::make_unique<ChatFormat>(model, fields.text("model").value_or(model.name),
                                            std::move(read));
  answer(model, exchange, std::move(job));
}

}  // namespace llama2zh
