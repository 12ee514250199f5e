// Loading: the sentencepiece model is parsed and checked first, then given to the library; tables by id and the tokens of
// the folder's JSON files follow.
#include <algorithm>

#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/hash.h"
#include "llama2zh/base/text.h"
#include "tokenizer/tokenizer_impl.h"

namespace llama2zh {
namespace {

constexpr std::string_view kSpace = "\u2581";

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

void load_processor(sentencepiece::SentencePieceProcessor& processor, const std::string& model,
                    const std::filesystem::path& path) {
  std::string problem;
  try {
    const auto status = processor.LoadFromSerializedProto(model);
    if (!status.ok()) problem = status.error_message();
  } catch (const std::exception& error) {  // Darts::Exception, std::bad_alloc
    problem = error.what();
  }
  if (!problem.empty()) {
    fail_format(path.string(), cat("sentencepiece does not take it: ", problem),
                "Fetch the file again");
  }
}

std::filesystem::path model_file_of(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return path;
  std::filesystem::path file = path / "tokenizer.model";
  if (std::filesystem::exists(file)) return file;
  if (std::filesystem::exists(path / "tokenizer.json")) {
    fail_format(path.string(),
                "the folder has tokenizer.json but no tokenizer.model, which is what is read here",
                "Add the tokenizer.model of the model it was made from (transformers 5 no longer "
                "saves it)");
  }
  fail_format(path.string(), "the folder has no tokenizer.model",
              "Name a folder with one, or a .model file");
}

}  // namespace

const sentencepiece::SentencePieceProcessor& Tokenizer::Impl::continuation() const {
  std::call_once(continuation_once, [this] {
    auto processor_without = std::make_unique<sentencepiece::SentencePieceProcessor>();
    load_processor(*processor_without, proto.serialize_without_dummy_prefix(), path);
    continuation_processor = std::move(processor_without);
  });
  return *continuation_processor;
}

void Tokenizer::Impl::load_model(const std::filesystem::path& model_file) {
  path = model_file;
  proto = ModelProto::read(model_file);
  const std::string bytes = proto.serialize();
  fingerprint = sha256_hex(bytes);
  const ModelSpecs& specs = proto.specs();
  if (specs.model_type > 2 || specs.whitespace_as_suffix) {
    fail_format(path.string(),
                specs.whitespace_as_suffix
                    ? "it writes spaces behind words (treat_whitespace_as_suffix)"
                    : "it is a word or character model",
                "LLaMA's tokenizers are BPE (or unigram) models with spaces in front of words");
  }
  load_processor(processor, bytes, path);
}

void Tokenizer::Impl::index_pieces() {
  const auto& pieces = proto.pieces();
  ids.reserve(pieces.size() + added.size());
  surfaces.reserve(pieces.size() + added.size());
  for (const SentencePiece& piece : pieces) {
    const auto id = static_cast<TokenId>(flags.size());
    ids.emplace(piece.text, id);
    uint8_t flag = 0;
    if (piece.type == PieceType::kControl) flag = kSpecial | kControlFlag;
    if (piece.type == PieceType::kByte) flag = kByteFlag;
    if (piece.type == PieceType::kUnknown) {
      flag = kSpecial | kUnknownFlag;
      unk = id;
    }
    flags.push_back(flag);
    if (flag == 0) {
      surfaces.push_back(with_spaces(piece.text));
    } else if (flag == kByteFlag) {
      surfaces.emplace_back(1, static_cast<char>(std::stoi(piece.text.substr(3, 2), nullptr, 16)));
    } else {
      surfaces.push_back((flag & kUnknownFlag) != 0 ? proto.specs().unk_surface : std::string());
    }
  }
}

// Tokens of the folder's JSON files: those that name a piece of the model must mean that piece; the others follow on it.
void Tokenizer::Impl::index_added() {
  const auto pieces = static_cast<int64_t>(proto.pieces().size());
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
    added.push_back(token);
    flags.push_back(static_cast<uint8_t>(token.special ? kSpecial : 0));
    surfaces.push_back(token.special ? std::string() : token.text);
  }
  for (size_t i = 0; i < added.size(); ++i) {
    if (!ids.emplace(added[i].text, static_cast<TokenId>(pieces + static_cast<int64_t>(i)))
             .second) {
      fail_format(
          added[i].where,
          cat("\"", added[i].text, "\" is a piece of ", path.filename().string(), " already"),
          "Remove it from the added tokens");
    }
  }
}

std::optional<TokenId> Tokenizer::Impl::resolve(const FolderSettings::Special& special,
                                                std::string_view name,
                                                const std::string& model_piece) const {
  if (special.text) {
    const auto it = ids.find(*special.text);
    if (it != ids.end()) return it->second;
    fail_format(
        special.where,
        cat(name, " \"", *special.text, "\" is not in the vocabulary (", size(), " tokens)"),
        "Name a piece of tokenizer.model, or give the token an id in added_tokens.json");
  }
  if (special.id) {
    if (*special.id < size()) return static_cast<TokenId>(*special.id);
    fail_format(
        special.where,
        cat(name, "_id ", *special.id, " lies outside the vocabulary (", size(), " tokens)"),
        "Take config.json and tokenizer.model from one folder");
  }
  const auto it = ids.find(model_piece);
  if (it == ids.end() || (flags[static_cast<size_t>(it->second)] & kControlFlag) == 0)
    return std::nullopt;
  return it->second;
}

void Tokenizer::Impl::index_marks() {
  std::vector<Mark> all;
  for (const AddedToken& token : settings.added)
    all.push_back({static_cast<TokenId>(token.id), token.lstrip, token.rstrip});
  for (const std::optional<TokenId> id :
       {std::optional(bos), std::optional(eos), std::optional(unk), pad}) {
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

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  auto impl = std::make_unique<Impl>();
  if (!std::filesystem::exists(path)) {
    fail_io(path.string(), "there is no such tokenizer file or folder");
  }
  const std::filesystem::path model_file = model_file_of(path);
  if (model_file != path) impl->settings = read_folder_settings(path);
  impl->load_model(model_file);
  impl->index_pieces();
  impl->index_added();
  const ModelSpecs& specs = impl->proto.specs();
  const auto bos = impl->resolve(impl->settings.bos, "bos_token", specs.bos_piece);
  const auto eos = impl->resolve(impl->settings.eos, "eos_token", specs.eos_piece);
  if (!bos || !eos) {
    fail_format(model_file.string(),
                cat("it has no ", bos ? "end" : "beginning", " of text piece (",
                    bos ? specs.eos_piece : specs.bos_piece, ")"),
                "Name the special tokens in tokenizer_config.json");
  }
  impl->bos = *bos;
  impl->eos = *eos;
  impl->pad = impl->resolve(impl->settings.pad, "pad_token", specs.pad_piece);
  impl->index_marks();
  return Tokenizer(std::move(impl));
}

std::string stored_template(const std::filesystem::path& folder) {
  return read_folder_settings(folder).template_name;
}

}  // namespace llama2zh
