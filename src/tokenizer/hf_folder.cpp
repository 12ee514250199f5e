// The tokenizer files of a Hugging Face folder, as transformers 4 writes them and 5 still reads:
// tokenizer_config.json {bos_token, eos_token, pad_token: text or {"content", "lstrip", ...}, added_tokens_decoder: {"id":
// {"content", "special", ...}}, legacy, add_bos_token, chat_template: Jinja text or [{"name", "template"}]},
// special_tokens_map.json {bos_token, ..., additional_special_tokens}, added_tokens.json {"text": id}, chat_template.jinja,
// config.json {bos_token_id, eos_token_id: number or list, pad_token_id}. For special ids the first that names one counts.
#include "tokenizer/hf_folder.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>
#include <unordered_set>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/json.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "tokenizer/byte_level_file.h"

namespace llama2zh {
namespace {

constexpr uint64_t kMaxTemplateBytes = uint64_t{1} << 22;
constexpr uint64_t kMaxFileBytes = uint64_t{1} << 28;
constexpr const char* kTemplateFile = "chat_template.jinja";
constexpr int64_t kMaxTokenId = int64_t{1} << 30;

// A JSON object read from a file of the folder; empty if there is no such file.
struct Section {
  std::string where;
  json value = json::object();

  const json* find(const char* key) const {
    const auto it = value.find(key);
    return it == value.end() || it->is_null() ? nullptr : &*it;
  }
  [[noreturn]] void fail(std::string_view key, std::string_view problem) const {
    fail_format(where, cat("\"", key, "\" ", problem), "Correct the file, or fetch it again");
  }
};

Section read_section(const TokenizerFiles& files, const char* name) {
  Section section{files.where(name), json::object()};
  const std::string* const text = files.find(name);
  if (text == nullptr) return section;
  section.value = parse_json(*text, section.where);
  if (!section.value.is_object()) fail_format(section.where, "expected a JSON object");
  return section;
}

bool bool_at(const Section& section, const json& object, const char* key, bool fallback) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return fallback;
  if (!it->is_boolean()) section.fail(key, "is not true or false");
  return it->get<bool>();
}

int64_t token_id(const Section& section, std::string_view key, const json& value) {
  if (!value.is_number_integer()) section.fail(key, "is not an id (a whole number)");
  const auto id = value.get<int64_t>();
  if (id < 0 || id > kMaxTokenId) section.fail(key, cat("is not an id: ", value.dump()));
  return id;
}

// A token given as text or as an AddedToken object.
AddedToken token_at(const Section& section, std::string_view key, const json& value) {
  AddedToken token;
  token.where = section.where;
  if (value.is_string()) {
    token.text = value.get<std::string>();
  } else if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    token.text = value["content"].get<std::string>();
    token.lstrip = bool_at(section, value, "lstrip", false);
    token.rstrip = bool_at(section, value, "rstrip", false);
    token.special = bool_at(section, value, "special", false);
    if (bool_at(section, value, "single_word", false)) {
      section.fail(key, "asks for \"single_word\", which is not supported here");
    }
  } else {
    section.fail(key, "is neither a text nor an object with \"content\"");
  }
  if (token.text.empty()) section.fail(key, "is an empty token");
  return token;
}

// Sorts by id and joins what two files say about one token; both must agree.
void join_tokens(std::vector<AddedToken>& tokens) {
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const auto& a, const auto& b) { return a.id < b.id; });
  std::vector<AddedToken> joined;
  std::unordered_map<std::string, size_t> by_text;
  for (AddedToken& token : tokens) {
    if (!joined.empty() && joined.back().id == token.id) {
      AddedToken& old = joined.back();
      if (old.text != token.text) {
        fail_format(
            token.where,
            cat("id ", token.id, " is \"", token.text, "\", but \"", old.text, "\" in ", old.where),
            "Make the two files agree");
      }
      old.special |= token.special;
      continue;
    }
    const auto [it, is_new] = by_text.emplace(token.text, joined.size());
    if (!is_new) {
      const AddedToken& old = joined[it->second];
      fail_format(
          token.where,
          cat("token \"", token.text, "\" has id ", token.id, ", but ", old.id, " in ", old.where),
          "Make the two files agree");
    }
    joined.push_back(std::move(token));
  }
  tokens = std::move(joined);
}

void read_added_tokens(const Section& config, const Section& added,
                       std::vector<AddedToken>& tokens) {
  if (const json* decoder = config.find("added_tokens_decoder")) {
    if (!decoder->is_object()) config.fail("added_tokens_decoder", "is not an object");
    for (const auto& [key, value] : decoder->items()) {
      AddedToken token = token_at(config, "added_tokens_decoder", value);
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), token.id);
      if (error != std::errc() || end != key.data() + key.size() || token.id < 0 ||
          token.id > kMaxTokenId) {
        config.fail("added_tokens_decoder", cat("has a key that is not an id: \"", key, "\""));
      }
      tokens.push_back(std::move(token));
    }
  }
  for (const auto& [text, value] : added.value.items()) {
    AddedToken token;
    token.text = text;
    token.id = token_id(added, text, value);
    token.where = added.where;
    if (text.empty()) added.fail(text, "is an empty token");
    tokens.push_back(std::move(token));
  }
  join_tokens(tokens);
}

FolderSettings::Special read_special(const std::string& name, const Section& tokenizer,
                                     const Section& map, const Section& model,
                                     std::unordered_set<std::string>& special_texts) {
  FolderSettings::Special special;
  const std::string key = name + "_token", id_key = key + "_id";
  for (const Section* section : {&tokenizer, &map}) {
    const json* value = section->find(key.c_str());
    if (value == nullptr) continue;
    const std::string text = token_at(*section, key, *value).text;
    special_texts.insert(text);
    if (special.text) continue;
    special.text = text;
    special.where = section->where;
  }
  const json* value = model.find(id_key.c_str());
  if (special.text || value == nullptr) return special;
  if (value->is_array()) {
    if (value->empty()) return special;
    value = &value->front();
  }
  if (value->is_number_integer() && value->get<int64_t>() < 0) return special;  // -1: none
  special.id = token_id(model, id_key, *value);
  special.where = model.where;
  return special;
}

std::string read_chat_template(const TokenizerFiles& files, const Section& tokenizer) {
  if (const std::string* const text = files.find(kTemplateFile)) {
    if (!is_utf8(*text)) fail_format(files.where(kTemplateFile), "it is not UTF-8 text");
    return *text;
  }
  const json* value = tokenizer.find("chat_template");
  if (value == nullptr) return {};
  if (value->is_string()) return value->get<std::string>();
  if (!value->is_array()) tokenizer.fail("chat_template", "is neither a text nor a list");
  for (const json& item : *value) {
    if (!item.is_object() || !item.contains("name") || !item.contains("template") ||
        !item["template"].is_string()) {
      tokenizer.fail("chat_template", "has an item without \"name\" and \"template\"");
    }
    if (item["name"] == "default") return item["template"].get<std::string>();
  }
  return {};
}

}  // namespace

TokenizerFiles TokenizerFiles::of_folder(const std::filesystem::path& folder) {
  TokenizerFiles files{folder, {}};
  const auto take = [&](const char* name, uint64_t most) {
    const std::filesystem::path path = folder / name;
    if (!std::filesystem::exists(path)) return false;
    files.contents[name] = read_file(path, most);
    return true;
  };
  if (!take("tokenizer.model", kMaxFileBytes)) take("tokenizer.json", kMaxFileBytes);
  for (const char* name :
       {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"}) {
    take(name, kMaxFileBytes);
  }
  take(kTemplateFile, kMaxTemplateBytes);
  return files;
}

const std::string* TokenizerFiles::find(const std::string& name) const {
  const auto it = contents.find(name);
  return it == contents.end() ? nullptr : &it->second;
}

std::string TokenizerFiles::where(const std::string& name) const {
  if (std::filesystem::is_directory(origin)) return (origin / name).string();
  return origin.filename() == name ? origin.string() : cat(origin.string(), ": ", name);
}

bool has_tokenizer(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / "tokenizer.model")) return true;
  const std::filesystem::path file = folder / "tokenizer.json";
  return std::filesystem::exists(file) && is_byte_level(read_json_file(file));
}

FolderSettings read_folder_settings(const TokenizerFiles& files, std::vector<AddedToken> known) {
  const Section tokenizer = read_section(files, "tokenizer_config.json");
  const Section map = read_section(files, "special_tokens_map.json");
  const Section added = read_section(files, "added_tokens.json");
  const Section model = read_section(files, "config.json");

  FolderSettings settings;
  settings.added = std::move(known);
  std::unordered_set<std::string> special_texts;
  read_added_tokens(tokenizer, added, settings.added);
  settings.bos = read_special("bos", tokenizer, map, model, special_texts);
  settings.eos = read_special("eos", tokenizer, map, model, special_texts);
  settings.pad = read_special("pad", tokenizer, map, model, special_texts);
  settings.unk = read_special("unk", tokenizer, map, model, special_texts);
  for (const Section* section : {&tokenizer, &map}) {
    const json* extra = section->find("additional_special_tokens");
    if (extra == nullptr) continue;
    if (!extra->is_array()) section->fail("additional_special_tokens", "is not a list");
    for (const json& item : *extra) {
      special_texts.insert(token_at(*section, "additional_special_tokens", item).text);
    }
  }
  for (AddedToken& token : settings.added) token.special |= special_texts.contains(token.text);
  settings.legacy = bool_at(tokenizer, tokenizer.value, "legacy", true);
  if (tokenizer.find("add_bos_token") != nullptr)
    settings.add_bos = bool_at(tokenizer, tokenizer.value, "add_bos_token", true);
  if (const json* length = tokenizer.find("model_max_length");
      length != nullptr && length->is_number()) {
    settings.model_max_length = length->get<double>();
  }
  settings.chat_template = read_chat_template(files, tokenizer);
  if (const json* name = tokenizer.find("llama2zh_template")) {
    if (!name->is_string()) tokenizer.fail("llama2zh_template", "is not a text");
    settings.template_name = name->get<std::string>();
  }
  return settings;
}

}  // namespace llama2zh
