// A folder in the style of transformers 4, which 4 and 5 and llama.cpp read: the vocabulary's file byte for byte, and
// beside it the JSON files that hf_folder.cpp reads. transformers takes ids of added tokens from added_tokens_decoder, its
// older versions from added_tokens.json.
#include <map>

#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/tokenizer/chat_template.h"
#include "llama2zh/tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_impl.h"

namespace llama2zh {
namespace {

ordered_json token_entry(const std::string& content, bool special, bool lstrip, bool rstrip) {
  return {{"content", content}, {"lstrip", lstrip},     {"normalized", false},
          {"rstrip", rstrip},   {"single_word", false}, {"special", special}};
}

}  // namespace

void Tokenizer::save(const std::filesystem::path& folder, std::string_view template_name) const {
  const Impl& impl = *impl_;
  const ChatTemplate* chat = template_name.empty() ? nullptr : &ChatTemplate::get(template_name);

  std::map<int64_t, ordered_json> entries;  // by id
  for (const std::optional<TokenId> id :
       {impl.unk, std::optional(impl.bos), std::optional(impl.eos), impl.pad})
    if (id) entries[*id] = token_entry(piece(*id), true, false, false);
  for (const AddedToken& token : impl.settings.added) {
    entries[token.id] = token_entry(token.text, token.special, token.lstrip, token.rstrip);
  }
  ordered_json decoder = ordered_json::object();
  for (const auto& [id, entry] : entries) decoder[std::to_string(id)] = entry;

  ordered_json special = {{"bos_token", piece(impl.bos)}, {"eos_token", piece(impl.eos)}};
  if (impl.unk) special["unk_token"] = piece(*impl.unk);
  if (impl.pad) special["pad_token"] = piece(*impl.pad);

  ordered_json config = {
      {"add_bos_token", add_bos()}, {"add_eos_token", false}, {"added_tokens_decoder", decoder}};
  config.update(special);
  config["clean_up_tokenization_spaces"] = false;
  if (impl.settings.model_max_length) config["model_max_length"] = *impl.settings.model_max_length;
  if (impl.is_sentencepiece()) {
    config["legacy"] = legacy();
    config["sp_model_kwargs"] = ordered_json::object();
    config["tokenizer_class"] = "LlamaTokenizer";
  } else {
    config["tokenizer_class"] = "PreTrainedTokenizerFast";
  }
  const std::string& jinja = chat != nullptr ? chat->jinja() : hf_chat_template();
  if (!jinja.empty()) config["chat_template"] = jinja;
  const std::string& name = chat != nullptr ? chat->name() : this->template_name();
  if (!name.empty()) config["llama2zh_template"] = name;

  std::filesystem::create_directories(folder);
  if (impl.is_sentencepiece()) {
    write_file_atomic(folder / "tokenizer.model", impl.proto->serialize());
  } else {
    write_file_atomic(folder / "tokenizer.json", impl.json_text);
  }
  write_json_file(folder / "tokenizer_config.json", config);
  write_json_file(folder / "special_tokens_map.json", special);
  ordered_json added = ordered_json::object();
  for (size_t id = impl.model_size; id < impl.texts.size(); ++id) added[impl.text(id)] = id;
  if (!added.empty()) write_json_file(folder / "added_tokens.json", added);
}

}  // namespace llama2zh
