// The forms of a chat template as a Jinja template for tokenizer_config.json, so that both say the same. Hugging Face
// renders it with trim_blocks and lstrip_blocks and gives messages, add_generation_prompt, bos_token and eos_token.
#include "tokenizer/chat_forms.h"

namespace llama2zh {
namespace {

// A Jinja string literal.
std::string jinja_quote(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\'' || c == '\\') {
      out += {'\\', c};
    } else {
      out += c;
    }
  }
  return out + "'";
}

std::string jinja_print(const std::string& expression) { return "{{ " + expression + " }}"; }

}  // namespace

std::string ChatTemplate::render_parts(const Forms& forms, const std::vector<Part>& parts,
                                       const std::string& content) {
  std::string out;
  for (const Part& part : parts) {
    switch (part.kind) {
      case Part::Kind::kBos:
        out += jinja_print("bos_token");
        break;
      case Part::Kind::kEos:
        out += jinja_print("eos_token");
        break;
      case Part::Kind::kContent:
        out += jinja_print(content);
        break;
      case Part::Kind::kSystem:
        out += "{% if loop.first and system %}" +
               render_parts(forms, forms.system, forms.strip_system ? "system.strip()" : "system") +
               "{% endif %}";
        break;
      case Part::Kind::kText:
      case Part::Kind::kMark:
        if (!part.text.empty()) out += jinja_print(jinja_quote(part.text));
        break;
    }
  }
  return out;
}

std::string ChatTemplate::make_jinja(const Forms& forms, std::string_view default_system) {
  const std::string plain = "message['content']", stripped = "message['content'].strip()";
  const std::string content = forms.strip == Forms::Strip::kNone ? plain : stripped;
  const std::string user =
      forms.strip == Forms::Strip::kTurn
          ? "(message['content'].rstrip() if loop.first and system else " + stripped + ")"
          : content;
  const std::string opening = render_parts(forms, forms.opening, "");
  std::string out = "{% if messages[0]['role'] == 'system' %}";
  out += forms.system.empty()
             ? jinja_print("raise_exception('This template has no system role')")
             : "{% set system = messages[0]['content'] %}{% set turns = messages[1:] %}";
  out += "{% else %}{% set system = " + jinja_quote(default_system) +
         " %}{% set turns = messages %}{% endif %}";
  if (forms.bos_first) out += jinja_print("bos_token");
  out +=
      "{% for message in turns %}"
      "{% if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') %}" +
      jinja_print("raise_exception('Roles must alternate user/assistant/user/assistant/...')") +
      "{% endif %}{% if message['role'] == 'user' %}" + render_parts(forms, forms.user, user) +
      "{% else %}" + opening;
  // An answer that is encoded as a text of its own starts with the dummy prefix: in the whole text, a space.
  if (forms.cut != Forms::Cut::kWhole && opening.empty()) out += jinja_print("' '");
  out += render_parts(forms, forms.assistant, content) + "{% endif %}{% endfor %}";
  if (!opening.empty()) out += "{% if add_generation_prompt %}" + opening + "{% endif %}";
  return out;
}

}  // namespace llama2zh
