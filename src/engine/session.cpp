// Everything that can be wrong with the files is found before the weights are read: tokenizer,
// config, shapes, vocabulary sizes, adapters' embedding rows, template name, device and type.
#include "llama2zh/engine/session.h"

#include "llama2zh/base/error.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/model/adapter_base.h"
#include "llama2zh/model/load.h"
#include "llama2zh/model/lora.h"

namespace llama2zh {
namespace {

namespace fs = std::filesystem;

// Weights whose loading ends where a stop is asked for.
class StoppableSource final : public TensorSource {
 public:
  explicit StoppableSource(std::unique_ptr<TensorSource> inner) : inner_(std::move(inner)) {}
  const std::vector<TensorInfo>& tensors() const override { return inner_->tensors(); }
  at::Tensor load(std::string_view name) const override {
    throw_if_stopped();
    return inner_->load(name);
  }
  std::string describe() const override { return inner_->describe(); }

 private:
  std::unique_ptr<TensorSource> inner_;
};

OpenModel open_stoppable(const fs::path& path) {
  OpenModel open = open_model(path);
  open.source = std::make_unique<StoppableSource>(std::move(open.source));
  return open;
}

// The last adapter wins: it was trained last, on the tokenizer it carries.
fs::path find_tokenizer(const LoadRequest& request) {
  if (!request.tokenizer.empty()) return request.tokenizer;
  for (auto it = request.adapters.rbegin(); it != request.adapters.rend(); ++it)
    if (has_tokenizer(*it)) return *it;
  if (!fs::exists(request.model)) fail_io(request.model.string(), "there is no such model");
  if (holds_tokenizer(request.model)) return request.model;
  if (fs::is_directory(request.model)) {
    // Meta's layout keeps one tokenizer for all sizes, beside their folders.
    const fs::path parent = fs::absolute(request.model).lexically_normal().parent_path();
    if (fs::exists(request.model / "params.json") && fs::exists(parent / "tokenizer.model"))
      return parent / "tokenizer.model";
    if (fs::exists(request.model / "tokenizer.json"))
      return request.model;  // of another kind, which load_tokenizer() explains
  }
  fail_usage(request.model.string(), "it has no tokenizer",
             "name the model's own with --tokenizer (a folder or a .model file)");
}

const ChatTemplate* find_template(const LoadRequest& request, const Tokenizer& tokenizer) {
  if (!request.template_name.empty()) return &ChatTemplate::get(request.template_name);
  for (auto it = request.adapters.rbegin(); it != request.adapters.rend(); ++it)
    if (const std::string name = stored_template(*it); !name.empty())
      return &ChatTemplate::get(name);
  if (!tokenizer.template_name().empty()) return &ChatTemplate::get(tokenizer.template_name());
  if (!tokenizer.hf_chat_template().empty())
    return ChatTemplate::detect(tokenizer.hf_chat_template());
  return nullptr;
}

void check_bases(const LoadRequest& request, const OpenModel& base) {
  if (request.allow_other_base) return;
  std::string identity;
  const auto base_identity = [&] {
    if (identity.empty()) identity = model_identity(base);
    return identity;
  };
  for (const fs::path& adapter : request.adapters)
    check_adapter_base(adapter, request.model, base_identity, "--allow-other-base");
}

// A token must mean the same to both.
void check_draft(const OpenModel& draft, const LlamaConfig& model, const Tokenizer& tokenizer) {
  const std::string remedy = "a draft model must have the model's own vocabulary";
  if (draft.config.vocab_size != model.vocab_size) {
    fail_format(draft.path.string(),
                cat("the draft model has ", draft.config.vocab_size, " embedding rows, the model ",
                    model.vocab_size),
                remedy);
  }
  if (!holds_tokenizer(draft.path)) return;
  const Tokenizer own = load_tokenizer(draft.path);
  if (own.fingerprint() == tokenizer.fingerprint()) return;
  for (TokenId id = 0; id < draft.config.vocab_size; ++id) {
    const bool same = id < own.vocab_size() && id < tokenizer.vocab_size() &&
                      own.piece(id) == tokenizer.piece(id);
    if (!same) {
      fail_format(draft.path.string(),
                  cat("the draft model's tokenizer is not the model's: they differ at id ", id),
                  remedy);
    }
  }
}

}  // namespace

LoadedModel load_for_inference(const LoadRequest& request) {
  LoadedModel loaded;
  for (const fs::path& adapter : request.adapters) {
    if (!is_peft_folder(adapter))
      fail_format(adapter.string(), "this is no adapter folder: adapter_config.json is missing",
                  "a whole model is given with --model");
  }
  loaded.tokenizer = std::make_unique<Tokenizer>(load_tokenizer(find_tokenizer(request)));
  loaded.chat_template = find_template(request, *loaded.tokenizer);

  OpenModel open = open_stoppable(request.model);
  for (const fs::path& adapter : request.adapters)
    check_adapter_vocabulary(adapter, open.config, request.model);
  check_bases(request, open);  // the base as it is stored
  for (const fs::path& adapter : request.adapters) adopt_rope(adapter, open.config);
  check_vocabulary(*loaded.tokenizer, open.config, request.model);
  const at::Device device = parse_device(request.device);
  const at::ScalarType dtype = parse_dtype(request.dtype, open.config, device);

  if (!request.draft_model.empty()) {
    const OpenModel draft = open_stoppable(request.draft_model);
    check_draft(draft, open.config, *loaded.tokenizer);
    loaded.draft = load_model(draft, parse_dtype(request.dtype, draft.config, device), device);
  }
  loaded.model = load_model(open, dtype, device);
  for (const fs::path& adapter : request.adapters) {
    throw_if_stopped();
    apply_adapter(*loaded.model, read_peft_adapter(adapter), /*train=*/false);
  }
  loaded.adapters = std::make_unique<AdapterRegistry>(*loaded.model, *loaded.tokenizer,
                                                      request.model, request.allow_other_base);
  for (const auto& [name, folder] : request.named_adapters) {
    throw_if_stopped();
    loaded.adapters->add(name, folder);
  }
  return loaded;
}

}  // namespace llama2zh
