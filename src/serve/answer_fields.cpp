// Sampling fields of a request (formats.md 5.2 and 5.8).
#include "serve/answer_fields.h"

#include <algorithm>
#include <random>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "serve/api_error.h"

namespace llama2zh {
namespace {

constexpr int64_t kMostNewTokens = 1048576;
constexpr int64_t kMostIds = 4096;
constexpr int64_t kMostChoices = 1024;

// "", [] and {} ask for nothing.
bool asks_for_something(const json* value) {
  if (value == nullptr) return false;
  return value->is_string() ? !value->get_ref<const std::string&>().empty() : !value->empty();
}

void refuse_what_is_not_here(const BodyFields& body) {
  for (const char* name : {"continue_final_message", "return_tokens_as_token_ids"})
    if (body.flag(name).value_or(false)) body.refuse(name, "is not supported by this server");
  for (const char* name : {"spaces_between_special_tokens", "add_generation_prompt"})
    if (!body.flag(name).value_or(true)) body.refuse(name, "can only be true on this server");
  const json* choice = body.any("tool_choice");
  if (choice != nullptr && *choice != "none" && *choice != "auto")
    body.refuse("tool_choice", "can only be none or auto: there are no tools on this server");
  for (const char* name : {"tools", "functions", "chat_template_kwargs", "chat_template",
                           "documents", "prompt_logprobs", "suffix", "cache_salt", "audio"})
    if (asks_for_something(body.any(name))) body.refuse(name, "is not supported by this server");
}

void read_penalties(const BodyFields& body, SamplingConfig& out) {
  out.presence_penalty = body.number("presence_penalty", -2, 2).value_or(out.presence_penalty);
  out.frequency_penalty = body.number("frequency_penalty", -2, 2).value_or(out.frequency_penalty);
  out.repetition_penalty =
      body.number("repetition_penalty", 0.01, 100).value_or(out.repetition_penalty);
  out.min_tokens = body.integer("min_tokens", 0, kMostNewTokens).value_or(0);
  out.ignore_eos = body.flag("ignore_eos").value_or(false);
  out.bad_words = body.texts("bad_words", 256).value_or(std::vector<std::string>());
  const json* bias = body.any("logit_bias");
  if (bias == nullptr) return;
  if (!bias->is_object()) body.refuse("logit_bias", "is no object {token id: bias}");
  if (static_cast<int64_t>(bias->size()) > kMostIds)
    body.refuse("logit_bias", cat("has more than ", kMostIds, " entries"));
  for (const auto& [id, value] : bias->items()) {
    const double number = value.is_number() ? value.get<double>() : 1e9;
    if (number < -100 || number > 100)
      body.refuse("logit_bias", cat("of ", shown(id), " is ", shown(value),
                                    ", expected a number from -100 to 100"));
    out.logit_bias.push_back(cat(id, "=", number));
  }
}

void read_stops(const BodyFields& body, const ServedModel& model, SamplingConfig& out) {
  out.stop = body.texts("stop", model.config.max_stop_texts).value_or(std::vector<std::string>());
  for (const std::string& stop : out.stop)
    if (stop.empty()) body.refuse("stop", "has an empty text, at which every answer would end");
  out.stop_ids = body.integers("stop_token_ids", kMostIds).value_or(std::vector<int64_t>());
}

std::vector<TokenId> read_allowed_ids(const BodyFields& body, const ServedModel& model) {
  const auto ids = body.integers("allowed_token_ids", kMostIds);
  if (!ids) return {};
  if (ids->empty()) body.refuse("allowed_token_ids", "is empty: there would be nothing to say");
  return checked_ids(*ids, model, "allowed_token_ids");
}

int64_t read_priority(const BodyFields& body, const ServedModel& model) {
  const int64_t priority = body.integer("priority", -1000000, 1000000).value_or(0);
  if (priority != 0 && !model.config.allow_priority)
    body.refuse("priority",
                "is not for clients to set here, unless the server is started with "
                "--allow-priority");
  return priority;
}

void read_stream_options(const BodyFields& body, AnswerFields& out) {
  const json* options = body.any("stream_options");
  if (options == nullptr) return;
  if (!out.stream) body.refuse("stream_options", "is only for stream = true");
  if (!options->is_object()) body.refuse("stream_options", "is no object");
  const BodyFields fields(*options, "stream_options.");
  out.include_usage = fields.flag("include_usage").value_or(false);
  out.continuous_usage = fields.flag("continuous_usage_stats").value_or(false) && out.include_usage;
}

std::string read_request_id(const BodyFields& body) {
  std::string id = body.text("request_id").value_or("");
  if (!id.empty() && !is_request_id(id))
    body.refuse("request_id", "is more than 64 letters, digits, - and _");
  return id;
}

// What a request asks its answer's text to be. The engine makes what following it takes at once, so
// that what is wrong with it is a 400 that names its field.
class ConstraintReader {
 public:
  ConstraintReader(const BodyFields& body, std::string_view text, const ServedModel& model)
      : body_(body), text_(text), model_(model) {}

  Constraint read() {
    const std::string place = body_.path() == "parameters." ? "/parameters" : "";
    if (Constraint guided = guided_by(body_, "guided_", place)) return guided;
    if (const json* outputs = body_.any("structured_outputs"))
      return of_structured_outputs(*outputs, place + "/structured_outputs");
    if (const json* format = body_.any("response_format"))
      return of_response_format(*format, place + "/response_format");
    return {};
  }

 private:
  Constraint prepared(const BodyFields& fields, const std::string& name,
                      Constraint constraint) const {
    try {
      model_.engine.prepare(constraint);
    } catch (const Error& error) {
      fields.refuse(name.c_str(), cat("can't be followed: ", error.what()));
    }
    return constraint;
  }

  // vLLM's names: `guided_...` of the older form, members of `structured_outputs` of the newer one.
  Constraint guided_by(const BodyFields& fields, const std::string& prefix,
                       const std::string& place) const {
    Constraint asked;
    std::string by;
    const auto take = [&](const std::string& name, Constraint constraint) {
      if (asked) fields.refuse(name.c_str(), cat("does not go with ", by));
      asked = prepared(fields, name, std::move(constraint));
      by = name;
    };
    const std::string schema = prefix + "json", pattern = prefix + "regex",
                      choices = prefix + "choice", grammar = prefix + "grammar";
    if (fields.any(schema.c_str()) != nullptr)
      take(schema, json_schema_constraint(ordered_text(text_, cat(place, "/", schema))));
    if (const auto value = fields.text(pattern.c_str()))
      take(pattern, {ConstraintKind::kPattern, *value});
    if (const auto value = fields.texts(choices.c_str(), kMostChoices))
      take(choices, choice_constraint(*value));
    if (const auto value = fields.text(grammar.c_str()))
      take(grammar, {ConstraintKind::kGrammar, *value});
    return asked;
  }

  Constraint of_structured_outputs(const json& outputs, const std::string& place) const {
    if (outputs == json{{"json_object", true}}) return json_schema_constraint(kAnyObject);
    if (!outputs.is_object()) body_.refuse("structured_outputs", "is no object");
    const BodyFields fields(outputs, "structured_outputs.");
    for (const auto& [name, value] : outputs.items())
      if (name != "json" && name != "regex" && name != "choice" && name != "grammar" &&
          !value.is_null())
        fields.refuse(name.c_str(),
                      "is not supported; json, json_object, regex, choice and grammar are");
    return guided_by(fields, "", place);
  }

  Constraint of_response_format(const json& format, const std::string& place) const {
    if (!format.is_object()) body_.refuse("response_format", "is no object");
    const BodyFields fields(format, "response_format.");
    const std::string type = fields.text("type").value_or("");
    if (type == "text") return {};
    if (type == "json_object") return json_schema_constraint(kAnyObject);
    if (type != "json_schema")
      fields.refuse("type", cat("is \"", type, "\", expected text, json_object or json_schema"));
    const json* named = fields.any("json_schema");
    if (named == nullptr || !named->is_object() || !named->contains("schema"))
      fields.refuse("json_schema", "is not {\"name\": ..., \"schema\": {...}}");
    return prepared(fields, "json_schema",
                    json_schema_constraint(ordered_text(text_, place + "/json_schema/schema")));
  }

  static constexpr const char* kAnyObject = R"({"type": "object"})";
  const BodyFields& body_;
  std::string_view text_;
  const ServedModel& model_;
};

}  // namespace

int64_t most_new_tokens(const ServedModel& model) {
  return model.config.max_new_tokens_limit > 0 ? model.config.max_new_tokens_limit : kMostNewTokens;
}

int64_t most_answers(const ServedModel& model) {
  return std::min(model.config.max_n, model.max_running);
}

int64_t random_seed() {
  thread_local std::random_device device;
  return static_cast<int64_t>((uint64_t{device()} << 31) ^ device()) & INT64_MAX;
}

AnswerFields read_answer_fields(const BodyFields& body, const ServedModel& model,
                                std::string_view text) {
  refuse_what_is_not_here(body);
  AnswerFields out;
  Request& request = out.request;
  SamplingConfig& sampling = request.sampling;
  request.adapter = model.adapter_of(body.text("model"));
  sampling.temperature = body.number("temperature", 0, 2).value_or(1.0);
  sampling.top_p = body.number("top_p", 0, 1).value_or(1.0);
  sampling.min_p = body.number("min_p", 0, 1).value_or(0.0);
  sampling.typical_p = body.number("typical_p", 0, 1).value_or(1.0);
  sampling.top_k = std::max<int64_t>(0, body.integer("top_k", -1, 1000000).value_or(0));
  sampling.seed = body.integer("seed", INT64_MIN, INT64_MAX).value_or(random_seed()) & INT64_MAX;
  read_penalties(body, sampling);
  read_stops(body, model, sampling);
  const int64_t most = most_answers(model);
  request.n = body.integer("n", 1, most).value_or(1);
  request.best_of = body.integer("best_of", 0, most).value_or(0);
  if (request.best_of > 0 && request.best_of < request.n)
    body.refuse("best_of", cat("is ", request.best_of, ", less than n = ", request.n));
  if (body.flag("use_beam_search").value_or(false)) {
    sampling.num_beams = std::max(request.n, request.best_of);
    sampling.temperature = 0;
    request.best_of = 0;
    sampling.length_penalty = body.number("length_penalty", -100, 100).value_or(1.0);
    const json* early = body.any("early_stopping");
    if (early != nullptr)
      sampling.early_stopping = early->is_boolean() ? (early->get<bool>() ? "true" : "false")
                                                    : body.text("early_stopping").value_or("false");
  }
  request.priority = read_priority(body, model);
  request.constraint = ConstraintReader(body, text, model).read();
  request.allowed_ids = read_allowed_ids(body, model);
  request.keep_stop = body.flag("include_stop_str_in_output").value_or(false);
  request.skip_special = body.flag("skip_special_tokens").value_or(true);
  out.stream = body.flag("stream").value_or(false);
  out.token_ids = body.flag("return_token_ids").value_or(false);
  out.request_id = read_request_id(body);
  out.truncate = read_truncation(body, model);
  read_stream_options(body, out);
  if (out.stream && request.best_of > request.n)
    body.refuse("best_of", "does not go with stream: which answers are best shows at the end");
  return out;
}

void refuse_prompt_fields(const BodyFields& body) {
  for (const char* name : {"echo", "add_special_tokens"})
    if (body.flag(name).value_or(false))
      body.refuse(name, "does not go with the chat template, which says what the prompt is");
}

int64_t read_truncation(const BodyFields& body, const ServedModel& model) {
  const int64_t most = body.integer("truncate_prompt_tokens", -1, model.context()).value_or(0);
  if (most == 0 && body.any("truncate_prompt_tokens") != nullptr)
    body.refuse("truncate_prompt_tokens", "is 0: there would be no prompt");
  return most;
}

void truncate_prompt(std::vector<TokenId>& prompt, int64_t most, int64_t answer,
                     const ServedModel& model) {
  if (most == 0) return;
  const int64_t kept = most < 0 ? model.context() - answer : most;
  const int64_t extra = std::ssize(prompt) - kept;
  if (extra <= 0) return;
  const bool has_bos = prompt.front() == model.loaded.tokenizer->bos_id() && kept > 1;
  const auto first = prompt.begin() + (has_bos ? 1 : 0);
  prompt.erase(first, first + extra);
}

void check_prompt_length(const std::vector<TokenId>& prompt, int64_t answer,
                         const ServedModel& model, const char* param) {
  if (prompt.empty()) refuse_field(param, cat(param, " is empty"));
  const auto length = static_cast<int64_t>(prompt.size());
  if (length + answer <= model.context()) return;
  throw ApiFailure({400,
                    cat("this model's maximum context length is ", model.context(),
                        " tokens, but the prompt has ", length, "; shorten it"),
                    param, "context_length_exceeded", 0});
}

std::vector<TokenId> checked_ids(const std::vector<int64_t>& ids, const ServedModel& model,
                                 const char* param) {
  std::vector<TokenId> out;
  const int64_t size = model.loaded.model->config.vocab_size;
  for (const int64_t id : ids) {
    if (id < 0 || id >= size)
      refuse_field(param, cat(param, " has the token id ", id, ", the vocabulary 0 to ", size - 1));
    out.push_back(static_cast<TokenId>(id));
  }
  return out;
}

std::vector<TokenId> ids_of_text(const std::string& text, const ServedModel& model, bool add_bos) {
  model.check_size(text.size(), "prompt");
  const Tokenizer& tokenizer = *model.loaded.tokenizer;
  std::vector<TokenId> ids = tokenizer.encode_with_specials(text);
  const bool has_bos = !ids.empty() && ids.front() == tokenizer.bos_id();
  if (add_bos && tokenizer.add_bos() && !has_bos) ids.insert(ids.begin(), tokenizer.bos_id());
  return ids;
}

}  // namespace llama2zh
