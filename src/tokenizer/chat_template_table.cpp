// The templates. Sources: v0.1, v0.2 and vllm are the forms of the original system (Chinese-LlaMA2: its SFT script tokenizes
// each turn by one call with add_special_tokens=False and joins the ids; its serving prompter sends one text); llama2 is
// Meta's generation.py (llama repository: each pair of turns is encoded between BOS and EOS by sentencepiece itself; cut
// at the answer's first "▁", where no piece reaches across); llama2_zh is LLaMA-Factory's (each text of a slot is encoded on
// its own); ChatML is OpenAI's, llama3 Meta's of Llama 3 without a date, zephyr that of Zephyr and TinyLlama-Chat, alpaca
// Stanford's prompt as a dialogue (Unsloth, LLaMA-Factory): rendered as one text each.
#include <algorithm>
#include <memory>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "tokenizer/chat_forms.h"

namespace llama2zh {
namespace {

// As the original spells it, with its two spaces.
constexpr const char* kMetaSystem =
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, "
    "while being safe.  "
    "Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or "
    "illegal content. Please "
    "ensure that your responses are socially unbiased and positive in nature.\nIf a question does "
    "not make any sense, or "
    "is not factually coherent, explain why instead of answering something not correct. If you "
    "don't know the answer to a "
    "question, please don't share false information.";

constexpr const char* kChineseSystem = "You are a helpful assistant. 你是一个乐于助人的助手。";

constexpr const char* kAlpacaSystem =
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.";

constexpr const char* kSmolLm2System =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";

// A template that puts a text of its own between the marks of a system message has a default that
// chatml lacks: the text goes on in the same literal.
bool has_own_system(std::string_view jinja) {
  for (const std::string_view newline : {"\n", "\\n"}) {
    const std::string opening = cat("<|im_start|>system", newline);
    for (size_t at = jinja.find(opening); at != std::string_view::npos;
         at = jinja.find(opening, at + 1)) {
      const size_t next = at + opening.size();
      const bool ends = next >= jinja.size() || jinja[next] == '\'' || jinja[next] == '"' ||
                        jinja[next] == '{' || jinja[next] == ' ';
      if (!ends) return true;
    }
  }
  return false;
}

}  // namespace

class ChatTemplateTable {
 public:
  static const ChatTemplateTable& get() {
    static const ChatTemplateTable table;
    return table;
  }
  const std::vector<ChatTemplate>& templates() const { return templates_; }

 private:
  using Part = ChatTemplate::Part;
  using Kind = Part::Kind;
  using Forms = ChatTemplate::Forms;

  static Part text(std::string value) { return {Kind::kText, std::move(value)}; }
  static Part mark(std::string value) { return {Kind::kMark, std::move(value)}; }
  static Part unsupervised(Part part) {
    part.supervised = false;
    return part;
  }

  ChatTemplateTable() {
    add("v0.1", "", {"\nhuman:"}, v01());
    add("v0.2", kMetaSystem, {}, v02());
    add("vllm", "", {"\n问："}, vllm());
    add("llama2", "", {}, llama2(Forms::Strip::kTurn, " "));
    add("llama2_zh", kChineseSystem, {}, llama2(Forms::Strip::kNone, ""));
    add("chatml", "", {"<|im_end|>", "<|im_start|>"}, chatml());
    add("smollm2", kSmolLm2System, {"<|im_end|>", "<|im_start|>"}, smollm2());
    add("llama3", "", {"<|eot_id|>"}, llama3());
    add("zephyr", "", {"<|user|>", "<|system|>"}, zephyr());
    add("alpaca", kAlpacaSystem, {"### Instruction:"}, alpaca());
    add("plain", "", {}, plain());
  }

  void add(std::string name, std::string default_system, std::vector<std::string> stop_texts,
           Forms forms) {
    forms_.push_back(std::make_unique<const Forms>(std::move(forms)));
    ChatTemplate item;
    item.name_ = std::move(name);
    item.jinja_ = ChatTemplate::make_jinja(*forms_.back(), default_system);
    item.default_system_ = std::move(default_system);
    item.stop_texts_ = std::move(stop_texts);
    item.forms_ = forms_.back().get();
    templates_.push_back(std::move(item));
  }

  // The original supervises the whole of the assistant's turn, its opening too.
  static Forms v01() {
    return {.cut = Forms::Cut::kTurns,
            .strip = Forms::Strip::kContents,
            .user = {{Kind::kBos}, text("\nhuman:\n"), {Kind::kContent}, text("\n"), {Kind::kEos}},
            .opening = {{Kind::kBos}, text("\nassistant:\n")},
            .assistant = {{Kind::kContent}, text("\n"), {Kind::kEos}}};
  }

  static Forms v02() {
    return {.cut = Forms::Cut::kTurns,
            .strip = Forms::Strip::kContents,
            .system = {text("<<SYS>>\n"), {Kind::kContent}, text("\n<</SYS>>")},
            .user = {{Kind::kBos},
                     text("[INST]"),
                     {Kind::kSystem},
                     text("\n"),
                     {Kind::kContent},
                     text("\n[/INST]\n")},
            .assistant = {{Kind::kContent}, {Kind::kEos}}};
  }

  static Forms vllm() {
    return {.cut = Forms::Cut::kWhole,
            .user = {{Kind::kBos}, text("问：\n"), {Kind::kContent}, text("\n答：\n")},
            .assistant = {{Kind::kContent}, {Kind::kEos}}};
  }

  static Forms llama2(Forms::Strip strip, std::string answer_end) {
    return {.cut = Forms::Cut::kTexts,
            .strip = strip,
            .system = {text("<<SYS>>\n"), {Kind::kContent}, text("\n<</SYS>>\n\n")},
            .user = {{Kind::kBos},
                     text("[INST] "),
                     {Kind::kSystem},
                     {Kind::kContent},
                     text(" [/INST]")},
            .assistant = {{Kind::kContent}, text(std::move(answer_end)), {Kind::kEos}}};
  }

  static Forms chatml() {
    return {.cut = Forms::Cut::kWhole,
            .bos_first = true,
            .system = {mark("<|im_start|>"),
                       text("system\n"),
                       {Kind::kContent},
                       mark("<|im_end|>"),
                       text("\n")},
            .user = {{Kind::kSystem},
                     mark("<|im_start|>"),
                     text("user\n"),
                     {Kind::kContent},
                     mark("<|im_end|>"),
                     text("\n")},
            .opening = {unsupervised(mark("<|im_start|>")), unsupervised(text("assistant\n"))},
            .assistant = {{Kind::kContent}, mark("<|im_end|>"), unsupervised(text("\n"))}};
  }

  static Forms smollm2() {
    Forms forms = chatml();
    forms.bos_first = false;
    return forms;
  }

  static Forms llama3() {
    const auto header = [](const char* role) {
      return std::vector<Part>{mark("<|start_header_id|>"), text(role), mark("<|end_header_id|>"),
                               text("\n\n")};
    };
    const auto turn = [&](const char* role) {
      std::vector<Part> parts = header(role);
      parts.insert(parts.end(), {{Kind::kContent}, mark("<|eot_id|>")});
      return parts;
    };
    Forms forms{.cut = Forms::Cut::kWhole,
                .strip = Forms::Strip::kContents,
                .strip_system = true,
                .bos_first = true,
                .system = turn("system"),
                .user = turn("user"),
                .opening = header("assistant"),
                .assistant = {{Kind::kContent}, mark("<|eot_id|>")}};
    forms.user.insert(forms.user.begin(), {Kind::kSystem});
    for (Part& part : forms.opening) part.supervised = false;
    return forms;
  }

  static Forms zephyr() {
    return {.cut = Forms::Cut::kWhole,
            .system = {mark("<|system|>"), text("\n"), {Kind::kContent}, {Kind::kEos}, text("\n")},
            .user = {{Kind::kSystem},
                     mark("<|user|>"),
                     text("\n"),
                     {Kind::kContent},
                     {Kind::kEos},
                     text("\n")},
            .opening = {unsupervised(mark("<|assistant|>")), unsupervised(text("\n"))},
            .assistant = {{Kind::kContent}, {Kind::kEos}, unsupervised(text("\n"))}};
  }

  static Forms alpaca() {
    return {.cut = Forms::Cut::kWhole,
            .bos_first = true,
            .system = {{Kind::kContent}, text("\n\n")},
            .user = {{Kind::kSystem}, text("### Instruction:\n"), {Kind::kContent}, text("\n\n")},
            .opening = {unsupervised(text("### Response:\n"))},
            .assistant = {{Kind::kContent}, {Kind::kEos}, unsupervised(text("\n\n"))}};
  }

  static Forms plain() {
    return {.cut = Forms::Cut::kTurns,
            .bos_first = true,
            .user = {{Kind::kContent}},
            .assistant = {{Kind::kContent}, {Kind::kEos}}};
  }

  std::vector<std::unique_ptr<const Forms>> forms_;
  std::vector<ChatTemplate> templates_;
};

const ChatTemplate& ChatTemplate::get(std::string_view name) {
  for (const ChatTemplate& item : ChatTemplateTable::get().templates()) {
    if (item.name_ == name) return item;
  }
  const std::string near = nearest(name, names());
  fail_usage("template",
             cat("there is no chat template \"", name, "\", expected one of ", join(names(), ", ")),
             near.empty() ? std::string() : cat("Did you mean \"", near, "\"?"));
}

std::vector<std::string> ChatTemplate::names() {
  std::vector<std::string> names;
  for (const ChatTemplate& item : ChatTemplateTable::get().templates()) names.push_back(item.name_);
  return names;
}

const ChatTemplate* ChatTemplate::detect(std::string_view hf_chat_template) {
  for (const ChatTemplate& item : ChatTemplateTable::get().templates()) {
    if (item.jinja_ == hf_chat_template) return &item;
  }
  const auto has = [&](std::string_view part) {
    return hf_chat_template.find(part) != std::string_view::npos;
  };
  if (has("[INST]") && has("<<SYS>>") && !has("[INST]<<SYS>>")) {
    return &get(has("你是一个乐于助人的助手。") ? "llama2_zh" : "llama2");
  }
  if (has("<|im_start|>") && has("<|im_end|>") && has(kSmolLm2System)) return &get("smollm2");
  if (has("<|im_start|>") && has("<|im_end|>"))
    return has_own_system(hf_chat_template) ? nullptr : &get("chatml");
  // Llama 3.1's says the date and knows tools.
  if (has("<|start_header_id|>") && has("<|end_header_id|>") && has("<|eot_id|>"))
    return has("Cutting Knowledge") || has("tools") ? nullptr : &get("llama3");
  // Phi-3's marks are the same, with another end.
  if (has("<|user|>") && has("<|assistant|>") && has("<|system|>") && has("eos_token"))
    return has("<|end|>") || has("bos_token") ? nullptr : &get("zephyr");
  if (has("### Instruction:") && has("### Response:") && has("eos_token") && has(kAlpacaSystem))
    return has("### Input:") ? nullptr : &get("alpaca");
  return nullptr;
}

}  // namespace llama2zh
