// Loading: the vocabulary's file is parsed and checked first, then given to its encoder; tables by id and the tokens of the
// folder's JSON files follow.
#include <algorithm>

#include "llama2zh/base/error.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/byte_level_encoder.h"
#include "tokenizer/byte_level_file.h"
#include "tokenizer/sentencepiece_encoder.h"
#include "tokenizer/tokenizer_impl.h"

namespace llama2zh {
namespace {

constexpr std::string_view kSpace = "\u2581";
constexpr const char* kModelFile = "tokenizer.model";
constexpr const char* kJsonFile = "tokenizer.json";

std::string with_spaces(std::string_view piece) {
  std::string text;
  text.reserve(piece.size());
  for (size_t i = 0; i < piece.size();) {
    const bool space = piece.substr(i, kSpace.size()) == kSpace;
    text += space ? ' ' : piece[i];
    i += space ? kSpace.size() : 1;
  }
  return text;
}

}  // namespace

void Tokenizer::Impl::reserve(size_t pieces) {
  const size_t all = pieces + settings.added.size();
  texts.reserve(all);  // `ids` looks into them
  ids.reserve(all);
  surfaces.reserve(all);
  flags.reserve(all);
}

void Tokenizer::Impl::add_piece(std::string text, std::string surface, uint8_t flag) {
  texts.push_back(std::move(text));
  ids.emplace(texts.back(), static_cast<TokenId>(texts.size() - 1));
  surfaces.push_back(std::move(surface));
  flags.push_back(flag);
}

void Tokenizer::Impl::load_sentencepiece(const TokenizerFiles& files, bool with_settings) {
  const std::string& bytes = *files.find(kModelFile);
  where = files.where(kModelFile);
  proto = std::make_unique<const ModelProto>(ModelProto::parse(bytes, where));
  fingerprint = sha256_hex(bytes);
  if (with_settings) settings = read_folder_settings(files);
  encoder = std::make_unique<SentencepieceEncoder>(*proto, where);
  const ModelSpecs& specs = proto->specs();
  add_bos = settings.add_bos.value_or(true);
  drops_first_spaces = specs.remove_extra_whitespaces;
  drops_first_space = specs.add_dummy_prefix || drops_first_spaces;
  model_size = proto->pieces().size();
  reserve(model_size);
  for (const SentencePiece& piece : proto->pieces()) {
    switch (piece.type) {
      case PieceType::kControl:
        add_piece(piece.text, {}, kSpecial | kControlFlag);
        break;
      case PieceType::kByte:
        add_piece(piece.text, {static_cast<char>(std::stoi(piece.text.substr(3, 2), nullptr, 16))},
                  kByteFlag | kFragment);
        break;
      case PieceType::kUnknown:
        unk = static_cast<TokenId>(texts.size());
        add_piece(piece.text, specs.unk_surface, kSpecial | kUnknownFlag);
        break;
      default:
        add_piece(piece.text, with_spaces(piece.text), 0);
    }
  }
}

void Tokenizer::Impl::load_byte_level(const TokenizerFiles& files) {
  where = files.where(kJsonFile);
  json_text = *files.find(kJsonFile);
  ByteLevelFile file = ByteLevelFile::parse(json_text, where);
  fingerprint = sha256_hex(json_text);
  settings = read_folder_settings(files, std::move(file.added));
  settings.legacy = true;  // every segment gets the space of add_prefix_space, where there is one
  add_bos = settings.add_bos.value_or(!file.bos.empty());
  if (!settings.bos.text && !file.bos.empty()) settings.bos = {file.bos, std::nullopt, where};
  if (!file.bos.empty() && *settings.bos.text != file.bos) {
    fail_format(where,
                cat("post_processor puts \"", file.bos, "\" in front of texts, but bos_token is \"",
                    *settings.bos.text, "\" in ", settings.bos.where),
                "Make the two files agree");
  }
  if (!settings.bos.text && !settings.bos.id) {
    settings.bos = settings.eos;
    add_bos = false;
  }
  model_size = file.tokens.size();
  reserve(model_size);
  const ByteAlphabet& alphabet = ByteAlphabet::get();
  for (std::string& text : file.tokens) {
    const auto bytes = alphabet.bytes_of(text);
    add_piece(text, bytes ? *bytes : text, kFragment);
  }
  for (const AddedToken& token : settings.added) {
    if (token.id >= static_cast<int64_t>(model_size)) break;
    const auto id = static_cast<size_t>(token.id);
    flags[id] = token.special ? kSpecial : 0;
    surfaces[id] = token.special ? std::string() : texts[id];
  }
  missing_bytes = file.missing_bytes();
  unk = file.unk;
  encoder = std::make_unique<ByteLevelEncoder>(std::move(file), where);
}

// Tokens of the folder's JSON files: those that name a piece of the model must mean that piece; the others follow on it.
void Tokenizer::Impl::index_added() {
  const auto pieces = static_cast<int64_t>(model_size);
  for (const AddedToken& token : settings.added) {
    if (token.id < pieces) {
      const std::string& piece = text(static_cast<size_t>(token.id));
      if (piece != token.text) {
        fail_format(
            token.where,
            cat("\"", token.text, "\" has id ", token.id, ", which ", path.filename().string(),
                " (", pieces, " pieces) gives to \"", piece, "\""),
            "The two files belong to different tokenizers: take both from one folder");
      }
      if (token.special) flags[static_cast<size_t>(token.id)] |= kSpecial;
      continue;
    }
    if (token.id != size()) {
      fail_format(
          token.where,
          cat("\"", token.text, "\" has id ", token.id, ", but the next free id is ", size()),
          "Ids of added tokens must follow on the model's pieces without a gap");
    }
    if (ids.contains(token.text)) {
      fail_format(token.where,
                  cat("\"", token.text, "\" is a piece of ", path.filename().string(), " already"),
                  "Remove it from the added tokens");
    }
    add_piece(token.text, token.special ? std::string() : token.text,
              static_cast<uint8_t>(token.special ? kSpecial : 0));
  }
}

std::optional<TokenId> Tokenizer::Impl::control_piece(const std::string& text) const {
  const auto it = ids.find(text);
  if (it == ids.end() || (flags[static_cast<size_t>(it->second)] & kControlFlag) == 0)
    return std::nullopt;
  return it->second;
}

std::optional<TokenId> Tokenizer::Impl::resolve(const FolderSettings::Special& special,
                                                std::string_view name) const {
  if (special.text) {
    const auto it = ids.find(*special.text);
    if (it != ids.end()) return it->second;
    fail_format(
        special.where,
        cat(name, " \"", *special.text, "\" is not in the vocabulary (", size(), " tokens)"),
        cat("Name a piece of ", path.filename().string(),
            ", or give the token an id in added_tokens.json"));
  }
  if (!special.id) return std::nullopt;
  if (*special.id < size()) return static_cast<TokenId>(*special.id);
  fail_format(special.where,
              cat(name, "_id ", *special.id, " lies outside the vocabulary (", size(), " tokens)"),
              cat("Take config.json and ", path.filename().string(), " from one folder"));
}

void Tokenizer::Impl::index_marks() {
  std::vector<Mark> all;
  for (const AddedToken& token : settings.added)
    all.push_back({static_cast<TokenId>(token.id), token.lstrip, token.rstrip});
  for (const std::optional<TokenId> id : {std::optional(bos), std::optional(eos), unk, pad}) {
    const bool is_new = id && std::none_of(all.begin(), all.end(),
                                           [&](const Mark& mark) { return mark.id == *id; });
    if (is_new) all.push_back({*id, false, false});
  }
  for (const Mark& mark : all)
    marks[static_cast<uint8_t>(text(static_cast<size_t>(mark.id))[0])].push_back(mark);
  for (auto& list : marks) {
    std::sort(list.begin(), list.end(), [this](const Mark& a, const Mark& b) {
      return text(static_cast<size_t>(a.id)).size() > text(static_cast<size_t>(b.id)).size();
    });
  }
}

void Tokenizer::Impl::find_special_ids() {
  std::string bos_piece, eos_piece, pad_piece;
  if (is_sentencepiece()) {
    bos_piece = proto->specs().bos_piece;
    eos_piece = proto->specs().eos_piece;
    pad_piece = proto->specs().pad_piece;
  }
  const auto find = [&](const FolderSettings::Special& special, std::string_view name,
                        const std::string& model_piece) {
    const auto id = resolve(special, name);
    if (!id) return control_piece(model_piece);
    // transformers takes the tokens that a folder names so for special ones.
    if (!is_sentencepiece() && special.text) {
      flags[static_cast<size_t>(*id)] = kSpecial;
      surfaces[static_cast<size_t>(*id)].clear();
    }
    return id;
  };
  const auto found_bos = find(settings.bos, "bos_token", bos_piece);
  const auto found_eos = find(settings.eos, "eos_token", eos_piece);
  if (!found_bos || !found_eos) {
    const std::string& piece = found_bos ? eos_piece : bos_piece;
    fail_format(where,
                cat("it has no ", found_bos ? "end" : "beginning", " of text piece",
                    piece.empty() ? "" : cat(" (", piece, ")")),
                "Name the special tokens in tokenizer_config.json");
  }
  bos = *found_bos;
  eos = *found_eos;
  pad = find(settings.pad, "pad_token", pad_piece);
  if (!is_sentencepiece() && !unk) unk = find(settings.unk, "unk_token", {});
}

Tokenizer Tokenizer::from_files(const TokenizerFiles& files) {
  auto impl = std::make_unique<Impl>();
  const bool is_folder = std::filesystem::is_directory(files.origin);
  if (files.find(kModelFile) != nullptr) {
    impl->path = is_folder ? files.origin / kModelFile : files.origin;
    impl->load_sentencepiece(files, /*with_settings=*/files.contents.size() > 1);
  } else if (files.find(kJsonFile) != nullptr) {
    impl->path = is_folder ? files.origin / kJsonFile : files.origin;
    impl->load_byte_level(files);
  } else {
    fail_format(files.origin.string(),
                "the folder has neither a tokenizer.model nor a tokenizer.json",
                "Name a folder with one, or a .model file");
  }
  impl->index_added();
  impl->find_special_ids();
  impl->index_marks();
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) {
    fail_io(path.string(), "there is no such tokenizer file or folder");
  }
  if (std::filesystem::is_directory(path)) return from_files(TokenizerFiles::of_folder(path));
  if (path.extension() == ".json") {
    fail_format(path.string(), "tokenizer.json does not name the special tokens",
                "Give the folder that holds it and tokenizer_config.json");
  }
  return from_files({path, {{kModelFile, ModelProto::read(path).serialize()}}});
}

std::string stored_template(const std::filesystem::path& folder) {
  return read_folder_settings(TokenizerFiles::of_folder(folder)).template_name;
}

}  // namespace llama2zh
