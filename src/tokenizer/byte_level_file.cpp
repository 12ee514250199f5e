// tokenizer.json: {"model": {"type": "BPE", "vocab": {text: id}, "merges": ["a b"] or [["a", "b"]], ...}, "added_tokens":
// [{"id", "content", "special", ...}], "normalizer", "pre_tokenizer", "post_processor", "decoder"}, as
// github.com/huggingface/tokenizers writes it (bindings of Rust structs by serde). "truncation" and "padding" are settings of
// its callers.
#include "tokenizer/byte_level_file.h"

#include <unordered_map>

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/base/utf8.h"
#include "tokenizer/byte_alphabet.h"

namespace llama2zh {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 24;
constexpr const char* kFetch = "Correct the file, or fetch it again";

class Reader {
 public:
  Reader(const json& root, const std::string& where, ByteLevelFile& file)
      : root_(root), where_(where), file_(file) {}

  void read() {
    if (!root_.is_object()) fail("the file", "is not a JSON object");
    read_kind();
    read_tokens();
    read_added();
    check_tokens();
    read_merges();
    read_bytes();
    read_normalizer();
    read_pre_tokenizer(member(root_, "pre_tokenizer"), where_, file_);
    read_decoder();
    read_post_processor(member(root_, "post_processor"));
  }

 private:
  [[noreturn]] void fail(std::string_view key, std::string_view problem,
                         std::string_view remedy = kFetch) const {
    fail_format(where_, cat("\"", key, "\" ", problem), remedy);
  }
  static const json& member(const json& object, const char* key) {
    static const json null;
    const auto it = object.is_object() ? object.find(key) : object.end();
    return it == object.end() ? null : *it;
  }
  const json& model(const char* key) const { return member(member(root_, "model"), key); }
  bool flag(const json& object, const char* key) const {
    const json& value = member(object, key);
    if (!value.is_null() && !value.is_boolean()) fail(key, "is not true or false");
    return value.is_boolean() && value.get<bool>();
  }
  std::string type_of(const json& value, const char* key) const {
    const json& type = member(value, "type");
    if (!type.is_string()) fail(key, "has no type");
    return type.get<std::string>();
  }

  // Models that this class is not for, told apart by what makes them so.
  void read_kind() {
    if (!member(root_, "model").is_object()) fail("model", "is missing");
    const json& type = model("type");
    const std::string kind = type.is_string() ? type.get<std::string>() : "BPE";
    if (kind != "BPE" || flag(member(root_, "model"), "byte_fallback")) {
      fail("model",
           cat("is a ", kind == "BPE" ? "BPE with byte_fallback (sentencepiece's)" : kind,
               ", expected a byte-level BPE"),
           "Add the tokenizer.model of the model it was made from (transformers 5 no longer saves "
           "it)");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const json& value = model(key);
      const bool is_none =
          value.is_null() || (value.is_string() && value.get_ref<const std::string&>().empty());
      if (!is_none) fail(key, "is not supported, expected none");
    }
    if (!model("dropout").is_null() && model("dropout") != 0) fail("dropout", "is not supported");
    file_.ignore_merges = flag(member(root_, "model"), "ignore_merges");
    file_.fuse_unk = flag(member(root_, "model"), "fuse_unk");
  }

  int64_t checked_id(const char* key, const std::string& text, const json& value) const {
    const bool is_id = value.is_number_integer() && value >= 0 && value < kMaxTokens;
    if (!is_id) fail(key, cat("gives \"", text, "\" the id ", value.dump(), ", which is none"));
    return value.get<int64_t>();
  }

  void place(const char* key, const std::string& text, int64_t id) {
    const auto index = static_cast<size_t>(id);
    if (text.empty()) fail(key, cat("has an empty token, id ", id));
    // No file may ask for more memory than it has tokens.
    if (index >= most_tokens_)
      fail(key, cat("gives \"", text, "\" the id ", id, ", but the file has only ", most_tokens_,
                    " tokens"));
    if (index >= file_.tokens.size()) file_.tokens.resize(index + 1);
    std::string& old = file_.tokens[index];
    if (!old.empty() && old != text)
      fail(key, cat("gives the id ", id, " to \"", text, "\" and to \"", old, "\""));
    old = text;
    ids_[text] = static_cast<TokenId>(id);
  }

  void read_tokens() {
    const json& vocab = model("vocab");
    const json& added = member(root_, "added_tokens");
    if (!vocab.is_object() || vocab.empty()) fail("vocab", "is not an object of texts and ids");
    if (!added.is_null() && !added.is_array()) fail("added_tokens", "is not a list");
    most_tokens_ = vocab.size() + added.size();
    file_.tokens.reserve(most_tokens_);
    ids_.reserve(most_tokens_);
    for (const auto& [text, id] : vocab.items())
      place("vocab", text, checked_id("vocab", text, id));
  }

  void read_added() {
    for (const json& entry : member(root_, "added_tokens")) {
      const json& content = member(entry, "content");
      if (!content.is_string()) fail("added_tokens", "has an entry without \"content\"");
      AddedToken token;
      token.where = where_;
      token.text = content.get<std::string>();
      token.id = checked_id("added_tokens", token.text, member(entry, "id"));
      token.special = flag(entry, "special");
      token.lstrip = flag(entry, "lstrip");
      token.rstrip = flag(entry, "rstrip");
      if (flag(entry, "single_word"))
        fail("added_tokens",
             cat("asks for single_word at \"", token.text, "\", which is not supported"));
      const auto known = ids_.find(token.text);
      if (known != ids_.end() && known->second != token.id) {
        fail("added_tokens", cat("gives \"", token.text, "\" the id ", token.id, ", but ",
                                 known->second, " is its id already"));
      }
      place("added_tokens", token.text, token.id);
      file_.added.push_back(std::move(token));
    }
  }

  void check_tokens() const {
    for (size_t id = 0; id < file_.tokens.size(); ++id) {
      if (file_.tokens[id].empty())
        fail("vocab", cat("has no token of id ", id, ", but one of id ", file_.tokens.size() - 1));
    }
  }

  TokenId require(const char* key, size_t rank, const std::string& text) const {
    const auto it = ids_.find(text);
    if (it == ids_.end()) fail(key, cat("element ", rank, ": \"", text, "\" is no token"));
    return it->second;
  }

  void read_merges() {
    const json& merges = model("merges");
    if (!merges.is_array()) fail("merges", "is not a list");
    file_.merges.reserve(merges.size());
    std::string left, right;
    for (const json& merge : merges) {
      const size_t rank = file_.merges.size();
      if (!read_merge(merge, left, right))
        fail("merges", cat("element ", rank, " is ", merge.dump(), ", expected two tokens"));
      file_.merges.push_back({require("merges", rank, left), require("merges", rank, right),
                              require("merges", rank, left + right)});
    }
  }

  static bool read_merge(const json& merge, std::string& left, std::string& right) {
    if (merge.is_array()) {
      if (merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) return false;
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      if (!merge.is_string()) return false;
      const auto& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space == std::string::npos) return false;
      left = text.substr(0, space);
      right = text.substr(space + 1);
    }
    return !left.empty() && !right.empty() && right.find(' ') == std::string::npos;
  }

  void read_bytes() {
    const ByteAlphabet& alphabet = ByteAlphabet::get();
    for (size_t byte = 0; byte < 256; ++byte) {
      const auto it = ids_.find(alphabet.symbol(static_cast<uint8_t>(byte)));
      file_.byte_ids[byte] = it == ids_.end() ? -1 : it->second;
    }
    for (int byte = ' '; byte <= '~'; ++byte) {
      if (file_.byte_ids[static_cast<size_t>(byte)] >= 0) continue;
      fail("vocab", cat("has no symbol for the character '", static_cast<char>(byte),
                        "': it is not that of a byte-level BPE"));
    }
    const json& unk = model("unk_token");
    if (unk.is_null()) return;
    if (!unk.is_string()) fail("unk_token", "is not a text");
    file_.unk = require("unk_token", 0, unk.get<std::string>());
  }

  void read_normalizer() {
    const json& value = member(root_, "normalizer");
    if (value.is_null()) return;
    const std::string type = type_of(value, "normalizer");
    if (type != "NFC") fail("normalizer", cat("is \"", type, "\", expected none or NFC"));
    file_.normalize_nfc = true;
  }

  void read_decoder() const {
    const json& value = member(root_, "decoder");
    const std::string type = value.is_null() ? "null" : type_of(value, "decoder");
    if (type != "ByteLevel") fail("decoder", cat("is ", type, ", expected ByteLevel"));
  }

  void read_post_processor(const json& value) {
    if (value.is_null()) return;
    const std::string type = type_of(value, "post_processor");
    if (type == "ByteLevel") return;  // it moves offsets, not ids
    if (type == "Sequence") {
      for (const json& step : member(value, "processors")) {
        if (!step.is_object() || type_of(step, "post_processor") == "Sequence")
          fail("post_processor", "is a Sequence inside a Sequence");
        read_post_processor(step);
      }
      return;
    }
    if (type != "TemplateProcessing") {
      fail("post_processor", cat("is \"", type, "\", expected TemplateProcessing or ByteLevel"));
    }
    read_template(member(value, "single"));
  }

  // "<s> $A </s>", either special token may be missing; what ends a text is put there by those who
  // write texts to train on, and a prompt must not end with it.
  void read_template(const json& single) {
    size_t texts = 0, behind = 0;
    for (const json& part : single) {
      const json& special = member(member(part, "SpecialToken"), "id");
      if (special.is_string() && texts == 0 && file_.bos.empty()) {
        file_.bos = special.get<std::string>();
      } else if (special.is_string() && texts == 1 && behind == 0) {
        ++behind;
      } else if (part.is_object() && part.contains("Sequence") && texts == 0) {
        ++texts;
      } else {
        texts = 2;
      }
    }
    if (texts != 1)
      fail("post_processor", "has a template that is not [BOS] text [EOS], which is not supported");
    if (!file_.bos.empty()) require("post_processor", 0, file_.bos);
  }

  const json& root_;
  const std::string& where_;
  ByteLevelFile& file_;
  size_t most_tokens_ = 0;
  std::unordered_map<std::string, TokenId> ids_;
};

}  // namespace

bool is_byte_level(const json& root) {
  const json none;
  const json& model = root.is_object() && root.contains("model") ? root["model"] : none;
  if (!model.is_object()) return false;
  return model.value("type", json("BPE")) == "BPE" &&
         model.value("byte_fallback", json(false)) != true;
}

ByteLevelFile ByteLevelFile::parse(std::string_view text, const std::string& where) {
  ByteLevelFile file;
  const json root = parse_json(text, where);
  Reader(root, where, file).read();
  return file;
}

std::vector<uint8_t> ByteLevelFile::missing_bytes() const {
  std::vector<uint8_t> missing;
  for (size_t byte = 0; byte < 256; ++byte) {
    const bool in_utf8 = byte < 0xC0 || (byte > 0xC1 && byte < 0xF5);
    if (in_utf8 && byte_ids[byte] < 0) missing.push_back(static_cast<uint8_t>(byte));
  }
  return missing;
}

}  // namespace llama2zh
