#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

enum class Role { kSystem, kUser, kAssistant, kTool };
// "human"/"user", "gpt"/"assistant"/"bot", "system", "tool"/"observation"/"function_call"...; kData
// error naming `where` for others.
Role parse_role(std::string_view name, std::string_view where);
std::string_view role_name(Role role);

struct Message {
  Role role = Role::kUser;
  std::string content;
};

// Ids of a dialogue and, for each, whether the loss is computed on it. turn_ends[i]: number of ids
// after the i-th user+assistant turn, so that whole turns can be dropped; the system text belongs
// to the first turn.
struct EncodedDialogue {
  std::vector<TokenId> ids;
  std::vector<uint8_t> supervised;
  std::vector<int64_t> turn_ends;
};

// How dialogues become tokens: one of a fixed set, chosen by name. The same object serves training
// and generation.
//   v0.1       <s>\nhuman:\nQ\n</s><s>\nassistant:\nA\n</s>       the original's first release
//   v0.2       <s>[INST]<<SYS>>\n..\n<</SYS>>\nQ\n[/INST]\nA</s>  the original's LLaMA-2 form, as it
//              codes it, with its default system text (Meta's)
//   vllm       <s>问：\nQ\n答：\nA</s>                            the original's serving prompter
//   llama2     <s>[INST] <<SYS>>\n..\n<</SYS>>\n\nQ [/INST] A </s>  Meta's
//   llama2_zh  the same, but A</s>, with the default system text
//              "You are a helpful assistant. 你是一个乐于助人的助手。"  LLaMA-Factory's
//   chatml     <|im_start|>role\n..<|im_end|>\n                   marks that are tokens become their
//              ids, else they are text
//   smollm2    chatml with the default system text "You are a helpful AI assistant named SmolLM,
//              trained by Hugging Face"
//   llama3     <|start_header_id|>role<|end_header_id|>\n\n..<|eot_id|>   Meta's of Llama 3
//   zephyr     <|user|>\nQ</s>\n<|assistant|>\nA</s>\n          Zephyr's and TinyLlama-Chat's
//   alpaca     ### Instruction:\nQ\n\n### Response:\nA</s>\n\n   Stanford's, with its first sentence
//   plain      Q, then A</s>: no marks at all
// chatml, llama3, alpaca and plain start with <s> if the tokenizer adds one to prompts (add_bos). A dialogue without a
// system message gets the template's default one; a system message with empty content means none.
// Text of a message is only ever text: "</s>" in it is five characters. How each form is cut into
// texts that are encoded on their own is the systems' own, as chat_template_table.cpp says.
class ChatTemplate {
 public:
  static const ChatTemplate& get(std::string_view name);  // kUsage error with the nearest name
  static std::vector<std::string> names();
  // The template recognised in a Hugging Face chat_template string (LLaMA-2, ChatML, Llama 3, Zephyr,
  // Alpaca) by all of its marks, or null: also where it has something that ours lacks, as a default
  // system text, a date or tools.
  static const ChatTemplate* detect(std::string_view hf_chat_template);

  const std::string& name() const { return name_; }
  const std::string& default_system() const { return default_system_; }

  // A whole dialogue for training: supervised are all ids of the assistant's turns incl. their
  // </s>. Roles that the template has no form for, a dialogue that does not alternate from the
  // user, and one without an assistant turn are kData errors that name role and position.
  EncodedDialogue encode(const Tokenizer& tokenizer, std::span<const Message> messages) const;
  // The prompt for the next assistant turn; the last message must be the user's.
  std::vector<TokenId> encode_prompt(const Tokenizer& tokenizer,
                                     std::span<const Message> messages) const;
  // Texts at which an answer in this template ends besides EOS ("<|im_end|>", "\nhuman:").
  const std::vector<std::string>& stop_texts() const { return stop_texts_; }
  // Ids at which an answer ends: EOS, and stop texts that are one token of this tokenizer (an added
  // special token's text is dropped in decoding, so that only its id can be seen).
  std::vector<TokenId> stop_ids(const Tokenizer& tokenizer) const;
  // A Jinja template with the same meaning, for tokenizer_config.json; empty where there is none.
  const std::string& jinja() const { return jinja_; }

 private:
  struct Part;
  struct Forms;
  friend class ChatTemplateTable;
  friend class DialogueWriter;
  ChatTemplate() = default;
  const Message* check_messages(std::span<const Message> messages, std::string_view& system) const;
  static std::string render_parts(const Forms& forms, const std::vector<Part>& parts,
                                  const std::string& content);
  static std::string make_jinja(const Forms& forms, std::string_view default_system);

  std::string name_, default_system_, jinja_;
  std::vector<std::string> stop_texts_;
  const Forms* forms_ = nullptr;
};

}  // namespace llama2zh
