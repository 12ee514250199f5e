// POST /v1/embeddings (formats.md 5.6), with "pooling" (mean or last) and "normalize" beside OpenAI's
// fields.
#include "serve/embedding_route.h"

#include <openssl/evp.h>

#include <cstring>
#include <utility>

#include "llama2zh/base/text.h"
#include "serve/answer_fields.h"
#include "serve/answer_texts.h"
#include "serve/answering.h"
#include "serve/completion_route.h"

namespace llama2zh {
namespace {

// Little-endian float32, as this processor has it.
std::string base64_of(const std::vector<float>& values) {
  const size_t bytes = values.size() * sizeof(float);
  std::string out(4 * ((bytes + 2) / 3) + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(values.data()),
                                   static_cast<int>(bytes));
  out.resize(static_cast<size_t>(size));
  return out;
}

class EmbeddingFormat final : public AnswerFormat {
 public:
  EmbeddingFormat(std::string name, bool base64) : name_(std::move(name)), base64_(base64) {}

  json whole(const std::vector<RequestResult>& results) override {
    json data = json::array();
    for (size_t i = 0; i < results.size(); ++i) {
      const std::vector<float>& values = results[i].embedding;
      data.push_back({{"object", "embedding"},
                      {"index", i},
                      {"embedding", base64_ ? json(base64_of(values)) : json(values)}});
    }
    json usage = usage_of(results);
    usage.erase("completion_tokens");
    return {{"object", "list"}, {"data", std::move(data)}, {"model", name_}, {"usage", usage}};
  }

 private:
  std::string name_;
  bool base64_;
};

}  // namespace

void serve_embeddings(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange) {
  const json body = parse_body(exchange->request().body);
  const BodyFields fields(body);
  const std::string adapter = model.adapter_of(fields.text("model"));
  const std::string encoding = fields.text("encoding_format").value_or("float");
  if (encoding != "float" && encoding != "base64")
    fields.refuse("encoding_format", cat("is \"", encoding, "\", expected float or base64"));
  const std::string pooling = fields.text("pooling").value_or("mean");
  if (pooling != "mean" && pooling != "last")
    fields.refuse("pooling", cat("is \"", pooling, "\", expected mean or last"));
  const int64_t size = model.loaded.model->config.hidden_size;
  if (fields.integer("dimensions", 1, INT64_MAX).value_or(size) != size)
    fields.refuse("dimensions",
                  cat("can only be ", size, ": this model's vectors can't be shortened"));
  const json* input = fields.any("input");
  if (input == nullptr) fields.refuse("input", "is missing");
  const int64_t truncation = read_truncation(fields, model);
  AnswerJob job;
  for (std::vector<TokenId>& ids : prompts_of(*input, "input", model)) {
    truncate_prompt(ids, truncation, 0, model);
    check_prompt_length(ids, 0, model, "input");
    Request request;
    request.prompt = std::move(ids);
    request.kind = pooling == "mean" ? RequestKind::kMeanEmbedding : RequestKind::kLastEmbedding;
    request.normalize = fields.flag("normalize").value_or(true);
    request.adapter = adapter;
    job.requests.push_back(std::move(request));
  }
  job.format = std::make_unique<EmbeddingFormat>(fields.text("model").value_or(model.name),
                                                 encoding == "base64");
  answer(model, exchange, std::move(job));
}

}  // namespace llama2zh
