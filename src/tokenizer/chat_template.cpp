// Dialogues to ids. A turn's form is a list of parts (chat_forms.h); texts that stand next to each other are joined before
// they are encoded, so that pieces form as in the rendered text. Special tokens are put in by id, never by parsing text.
#include "llama2zh/tokenizer/chat_template.h"

#include <algorithm>
#include <array>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "tokenizer/chat_forms.h"

namespace llama2zh {
namespace {

struct RoleName {
  std::string_view name;
  Role role;
};
constexpr std::array<RoleName, 11> kRoleNames = {{{"user", Role::kUser},
                                                  {"human", Role::kUser},
                                                  {"assistant", Role::kAssistant},
                                                  {"gpt", Role::kAssistant},
                                                  {"bot", Role::kAssistant},
                                                  {"system", Role::kSystem},
                                                  {"tool", Role::kTool},
                                                  {"observation", Role::kTool},
                                                  {"function_call", Role::kTool},
                                                  {"function", Role::kTool},
                                                  {"tool_call", Role::kTool}}};

// What Python's str.strip() removes.
bool is_python_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string_view strip_python(std::string_view text, bool left) {
  const auto character_at = [&](size_t begin, size_t length) {
    const auto points = utf8_to_codepoints(text.substr(begin, length));
    return points.empty() ? char32_t{0} : points.front();
  };
  const auto is_tail = [&](size_t i) {
    return (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
  };
  while (left && !text.empty()) {
    size_t length = 1;
    while (length < text.size() && is_tail(length)) ++length;
    if (!is_python_space(character_at(0, length))) break;
    text.remove_prefix(length);
  }
  while (!text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && is_tail(begin)) --begin;
    if (!is_python_space(character_at(begin, text.size() - begin))) break;
    text = text.substr(0, begin);
  }
  return text;
}

}  // namespace

Role parse_role(std::string_view name, std::string_view where) {
  std::vector<std::string> names;
  for (const RoleName& known : kRoleNames) {
    if (known.name == name) return known.role;
    names.emplace_back(known.name);
  }
  fail_data(where, cat("unknown role \"", name, "\", expected one of ", join(names, ", ")));
}

std::string_view role_name(Role role) {
  switch (role) {
    case Role::kSystem:
      return "system";
    case Role::kUser:
      return "user";
    case Role::kAssistant:
      return "assistant";
    case Role::kTool:
      return "tool";
  }
  return "unknown";
}

// Collects ids and masks of a dialogue part by part.
class DialogueWriter {
 public:
  using Part = ChatTemplate::Part;
  using Forms = ChatTemplate::Forms;

  DialogueWriter(const Forms& forms, const Tokenizer& tokenizer)
      : forms_(forms), tokenizer_(tokenizer) {
    if (forms.bos_first && tokenizer.add_bos()) push_id(tokenizer.bos_id(), false);
    last_ = Last::
        kNothing;  // a BOS that a tokenizer adds does not count as a special token in the text
  }

  void begin_turn() {
    flush();
    if (forms_.cut == Forms::Cut::kTurns) last_ = Last::kNothing;
  }

  void user(std::string_view content, std::string_view system) {
    begin_turn();
    if (forms_.strip_system) system = strip_python(system, true);
    const bool has_system = !system.empty();
    if (forms_.strip != Forms::Strip::kNone) {
      content = strip_python(content, !(has_system && forms_.strip == Forms::Strip::kTurn));
    }
    for (const Part& part : forms_.user) {
      if (part.kind != Part::Kind::kSystem) {
        write(part, content, false);
      } else if (has_system) {
        for (const Part& inner : forms_.system) write(inner, system, false);
      }
    }
  }

  void opening() {
    begin_turn();
    for (const Part& part : forms_.opening) write(part, {}, part.supervised);
  }

  void assistant(std::string_view content) {
    opening();
    if (forms_.strip != Forms::Strip::kNone) content = strip_python(content, true);
    for (const Part& part : forms_.assistant) write(part, content, part.supervised);
    flush();
    dialogue_.turn_ends.push_back(static_cast<int64_t>(dialogue_.ids.size()));
  }

  EncodedDialogue finish() {
    flush();
    return std::move(dialogue_);
  }

 private:
  enum class Last { kNothing, kSpecial, kText };

  void write(const Part& part, std::string_view content, bool supervised) {
    switch (part.kind) {
      case Part::Kind::kBos:
        return push_id(tokenizer_.bos_id(), supervised);
      case Part::Kind::kEos:
        return push_id(tokenizer_.eos_id(), supervised);
      case Part::Kind::kMark:
        if (const auto id = tokenizer_.id_of(part.text)) return push_id(*id, supervised);
        return push_text(part.text, supervised);
      case Part::Kind::kText:
        return push_text(part.text, supervised);
      case Part::Kind::kContent:
        return push_text(content, supervised);
      case Part::Kind::kSystem:
        return;  // only in `user`, which expands it
    }
  }

  void push_id(TokenId id, bool supervised) {
    flush();
    dialogue_.ids.push_back(id);
    dialogue_.supervised.push_back(supervised ? 1 : 0);
    last_ = Last::kSpecial;
  }

  void push_text(std::string_view text, bool supervised) {
    if (supervised != text_supervised_) flush();
    text_supervised_ = supervised;
    text_ += text;
  }

  void flush() {
    if (text_.empty()) return;
    const bool prefix = forms_.cut == Forms::Cut::kTexts || last_ == Last::kNothing ||
                        (last_ == Last::kSpecial && tokenizer_.legacy());
    tokenizer_.encode_append(text_, prefix, dialogue_.ids);
    dialogue_.supervised.resize(dialogue_.ids.size(), text_supervised_ ? 1 : 0);
    text_.clear();
    last_ = Last::kText;
  }

  const Forms& forms_;
  const Tokenizer& tokenizer_;
  EncodedDialogue dialogue_;
  std::string text_;
  bool text_supervised_ = false;
  Last last_ = Last::kNothing;
};

// Checks roles and their order; returns the first message behind the system's and sets `system`.
const Message* ChatTemplate::check_messages(std::span<const Message> messages,
                                            std::string_view& system) const {
  system = default_system_;
  if (messages.empty()) fail_data("dialogue", "it has no messages");
  const auto where = [](size_t i) { return cat("message ", i + 1); };
  size_t first = 0;
  for (size_t i = 0; i < messages.size(); ++i) {
    const Role role = messages[i].role;
    if (role == Role::kTool || (role == Role::kSystem && forms_->system.empty())) {
      fail_data(where(i),
                cat("chat template \"", name_, "\" has no form for the role \"", role_name(role),
                    "\"", role == Role::kTool ? " (tool, observation, function_call)" : ""),
                "Choose another template, or leave such rows out");
    }
    if (role == Role::kSystem && i == 0) {
      system = messages[0].content;
      first = 1;
      continue;
    }
    const Role expected = (i - first) % 2 == 0 ? Role::kUser : Role::kAssistant;
    if (role != expected) {
      fail_data(where(i), cat("it is the ", role_name(role), "'s, expected the ",
                              role_name(expected), "'s: turns must alternate, the user's first"));
    }
  }
  return messages.data() + first;
}

EncodedDialogue ChatTemplate::encode(const Tokenizer& tokenizer,
                                     std::span<const Message> messages) const {
  std::string_view system;
  const Message* message = check_messages(messages, system);
  const Message* const end = messages.data() + messages.size();
  if (message == end || (end - message) % 2 != 0) {
    fail_data(cat("message ", messages.size()),
              cat("the dialogue ends with the ", role_name(end[-1].role),
                  "'s message, expected an answer of the assistant"));
  }
  DialogueWriter writer(*forms_, tokenizer);
  for (; message != end; message += 2) {
    writer.user(message[0].content, system);
    writer.assistant(message[1].content);
    system = {};
  }
  return writer.finish();
}

std::vector<TokenId> ChatTemplate::encode_prompt(const Tokenizer& tokenizer,
                                                 std::span<const Message> messages) const {
  std::string_view system;
  const Message* message = check_messages(messages, system);
  const Message* const end = messages.data() + messages.size();
  if ((end - message) % 2 != 1) {
    fail_data(cat("message ", messages.size()),
              "the last message must be the user's to be answered");
  }
  DialogueWriter writer(*forms_, tokenizer);
  for (; message != end; ++message) {
    if (message->role == Role::kUser) {
      writer.user(message->content, system);
      system = {};
    } else {
      writer.assistant(message->content);
    }
  }
  writer.opening();
  return writer.finish().ids;
}

std::vector<TokenId> ChatTemplate::stop_ids(const Tokenizer& tokenizer) const {
  std::vector<TokenId> ids = {tokenizer.eos_id()};
  for (const std::string& text : stop_texts_) {
    const auto id = tokenizer.id_of(text);
    if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) ids.push_back(*id);
  }
  return ids;
}

}  // namespace llama2zh
