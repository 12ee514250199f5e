// llama2zh inspect: says what a path holds, and checks it: the manifest's sizes and checksums, every tensor's name and shape, the vocabulary.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <tuple>
#include <vector>

#include "commands/inspect_gguf.h"
#include "commands/verbs.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/file.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/data/token_store.h"
#include "llama2zh/formats/manifest.h"
#include "llama2zh/formats/meta.h"
#include "llama2zh/formats/peft.h"
#include "llama2zh/model/gguf.h"
#include "llama2zh/model/load.h"
#include "llama2zh/tokenizer/model_proto.h"
#include "llama2zh/train/checkpoint.h"

namespace llama2zh {
namespace {

// torch.save's archives, which share the extension .bin with llama2.c's files.
bool is_zip(const fs::path& path) {
  char magic[2] = {};
  std::ifstream(path, std::ios::binary).read(magic, 2);
  return magic[0] == 'P' && magic[1] == 'K';
}

struct InspectOptions {
  std::string path;
  bool tensors = false;
  bool checksums = true;
  bool json_output = false;
  static auto options() {
    using T = InspectOptions;
    return std::tuple(
        option("path", &T::path,
               "A model, adapter, tokenizer, checkpoint, run or token store folder, or a file of "
               "the first three (.gguf: its header)."),
        option("tensors", &T::tensors, "List every tensor."),
        option("checksums", &T::checksums,
               "Verify the manifest's checksums (reads every byte); sizes are checked always."),
        option("json", &T::json_output, "One JSON object."));
  }
};

ordered_json tensor_summary(const TensorSource& source, bool list) {
  uint64_t bytes = 0;
  int64_t elements = 0;
  ordered_json all = ordered_json::array();
  for (const TensorInfo& info : source.tensors()) {
    bytes += info.bytes();
    elements += info.numel();
    if (list)
      all.push_back(
          {{"name", info.name}, {"dtype", dtype_name(info.dtype)}, {"shape", info.shape}});
  }
  ordered_json out = {{"source", source.describe()},
                      {"tensors", source.tensors().size()},
                      {"elements", elements},
                      {"bytes", bytes}};
  if (list) out["list"] = all;
  return out;
}

ordered_json inspect_tokenizer(const fs::path& path) {
  const Tokenizer tokenizer = load_tokenizer(path);
  ordered_json out = {{"vocab_size", tokenizer.vocab_size()}, {"pieces", tokenizer.model_size()}};
  if (const ModelProto* const proto = tokenizer.sentencepiece()) {
    out["type"] = proto->is_bpe() ? "bpe" : "unigram";
    out["byte_fallback"] = proto->has_byte_fallback();
  } else {
    out["type"] = "byte-level bpe";
    out["missing_bytes"] = tokenizer.missing_bytes();
    out["add_bos"] = tokenizer.add_bos();
  }
  out["bos_id"] = tokenizer.bos_id();
  out["eos_id"] = tokenizer.eos_id();
  if (tokenizer.sentencepiece() != nullptr) out["legacy"] = tokenizer.legacy();
  out["sha256"] = tokenizer.fingerprint();
  if (tokenizer.pad_id()) out["pad_id"] = *tokenizer.pad_id();
  if (!tokenizer.template_name().empty()) out["template"] = tokenizer.template_name();
  return out;
}

ordered_json inspect_adapter(const fs::path& folder, bool list) {
  const PeftAdapter adapter = read_peft_adapter(folder);
  ordered_json out = {{"kind", "adapter"},
                      {"base_model", adapter.config.base_model},
                      {"rank", adapter.config.rank},
                      {"alpha", adapter.config.alpha},
                      {"target_modules", adapter.config.target_modules},
                      {"modules_to_save", adapter.config.modules_to_save},
                      {"lora_modules", adapter.lora.size()}};
  int64_t zero = 0;
  for (const auto& [module, pair] : adapter.lora)
    zero += pair.b.abs().max().item<double>() == 0 ? 1 : 0;
  out["lora_b_all_zero"] = zero;
  for (const auto& [name, tensor] : adapter.full) out["full"][name] = tensor.sizes().vec();
  out["weights"] = tensor_summary(*open_tensors(folder), list);
  return out;
}

ordered_json inspect_model(const fs::path& path, bool list) {
  const OpenModel model = open_model(path);
  const LlamaConfig& config = model.config;
  return {{"kind", "model"},
          {"parameters", config.parameter_count()},
          {"vocab_size", config.vocab_size},
          {"hidden_size", config.hidden_size},
          {"intermediate_size", config.intermediate_size},
          {"num_hidden_layers", config.num_hidden_layers},
          {"num_attention_heads", config.num_attention_heads},
          {"num_key_value_heads", config.num_key_value_heads},
          {"max_position_embeddings", config.max_position_embeddings},
          {"rope_theta", config.rope.theta},
          {"tie_word_embeddings", config.tie_word_embeddings},
          {"weights", tensor_summary(*model.source, list)}};
}

// The header of any .gguf; what it says as a model, and its tokenizer, of one that can be run here.
ordered_json inspect_gguf(const fs::path& path, bool list) {
  ordered_json out = {{"kind", "gguf"}};
  out.update(inspect_gguf_header(path, list));
  if (out["metadata"].value("general.architecture", "") != "llama") return out;
  ordered_json model = inspect_model(path, false);
  model.erase("kind");
  out.update(model);
  std::string note;
  const auto file = GgufFile::open(path);
  if (!gguf_tokenizer_files(*file, note).contents.empty()) {
    out["tokenizer"] = inspect_tokenizer(path);
  } else {
    out["tokenizer_problem"] = note;
  }
  return out;
}

ordered_json inspect_store(const fs::path& folder, bool checksums) {
  if (checksums) verify_token_store(folder);
  const StoreInfo info = read_store_info(folder);
  ordered_json out = {{"kind", "tokens"},
                      {"row_kind", info.kind == RowKind::kSft ? "sft" : "pretrain"},
                      {"id_bytes", info.id_bytes},
                      {"fingerprint", info.fingerprint}};
  for (const auto& [name, set] : info.sets) {
    const RowCounts& counts = set.counts;
    out[name] = {{"rows", set.rows},
                 {"tokens", set.tokens},
                 {"supervised", set.supervised},
                 {"characters", counts.characters},
                 {"longest", set.longest},
                 {"shards", set.shards.size()}};
    if (name == "train") {
      out["left_out"] = {{"bad", counts.bad},
                         {"dropped", counts.dropped},
                         {"filtered", counts.filtered},
                         {"duplicates", counts.duplicates}};
    }
  }
  return out;
}

// The checkpoints of a training run's folder, oldest first; sizes are checked, as when a run goes on.
ordered_json inspect_checkpoints(const fs::path& folder) {
  ordered_json list = ordered_json::array();
  for (const CheckpointEntry& entry : list_checkpoints(folder)) {
    std::string problem;
    try {
      if (!has_manifest(entry.path)) fail_format(entry.path.string(), "its writing did not end");
      verify_manifest(entry.path, /*deep=*/false);
    } catch (const Error& error) {
      problem = error.what();
    }
    list.push_back({{"name", entry.path.filename().string()},
                    {"step", entry.step},
                    {"whole", problem.empty()}});
    if (!problem.empty()) list.back()["problem"] = problem;
  }
  return list;
}

// The kind is read off the files; a manifest, where there is one, is verified first.
ordered_json inspect_path(const InspectOptions& options) {
  const fs::path path = options.path;
  if (!fs::exists(path)) fail_usage(options.path, "there is no such file or folder");
  const bool folder = fs::is_directory(path);
  ordered_json out = {{"path", options.path}};
  std::string manifest_kind;
  if (folder && has_manifest(path)) {
    verify_manifest(path, options.checksums);
    const Manifest manifest = read_manifest(path);
    manifest_kind = manifest.kind;
    out["manifest"] = {{"kind", manifest.kind},
                       {"verified", options.checksums ? "sizes and checksums" : "sizes"},
                       {"tokenizer_sha256", manifest.tokenizer_sha256},
                       {"vocab_size", manifest.vocab_size},
                       {"base_identity", manifest.base_identity},
                       {"extra", manifest.extra}};
  }
  const ordered_json checkpoints = folder ? inspect_checkpoints(path) : ordered_json::array();
  if (manifest_kind == "tokens") {
    out.update(inspect_store(path, options.checksums));
  } else if (path.extension() == ".model") {
    out["kind"] = "tokenizer";
  } else if (!folder && is_gguf_file(path)) {
    out.update(inspect_gguf(path, options.tensors));
  } else if (folder && is_peft_folder(path)) {
    out.update(inspect_adapter(path, options.tensors));
  } else if ((folder && (fs::exists(path / "config.json") || is_meta_folder(path))) ||
             (!folder && path.extension() == ".bin" && !is_zip(path))) {
    out.update(inspect_model(path, options.tensors));
  } else if (folder && has_tokenizer(path) && manifest_kind != "checkpoint") {
    out["kind"] = "tokenizer";
  } else if (!checkpoints.empty()) {
    out["kind"] = "run";
  } else {
    out["kind"] = manifest_kind.empty() ? "tensors" : manifest_kind;
    out["weights"] = tensor_summary(*open_tensors(path), options.tensors);
  }
  if (path.extension() == ".model" || (folder && has_tokenizer(path)))
    out["tokenizer"] = inspect_tokenizer(path);
  if (!checkpoints.empty()) out["checkpoints"] = checkpoints;
  return out;
}

// A text without control characters, which would end its line or steer a terminal.
bool is_one_line(const ordered_json& item) {
  if (!item.is_string()) return false;
  const auto& text = item.get_ref<const std::string&>();
  return std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

// "weights.tensors: 39" lines, nested keys joined by dots.
void print_flat(const ordered_json& value, const std::string& prefix) {
  for (const auto& [key, item] : value.items()) {
    const std::string name = prefix.empty() ? key : prefix + "." + key;
    if (item.is_object()) {
      print_flat(item, name);
    } else if (key == "checkpoints") {
      for (const auto& checkpoint : item) {
        std::puts(cat(name, ": ", checkpoint["name"].get<std::string>(), ", ",
                      checkpoint["whole"].get<bool>()
                          ? "whole"
                          : "not usable: " + checkpoint["problem"].get<std::string>())
                      .c_str());
      }
    } else if (key == "list") {
      for (const auto& tensor : item) {
        std::puts(cat("  ", tensor["name"].get<std::string>(), " ",
                      tensor["dtype"].get<std::string>(), " ", tensor["shape"].dump())
                      .c_str());
      }
    } else {
      std::puts(cat(name, ": ", is_one_line(item) ? item.get<std::string>() : item.dump()).c_str());
    }
  }
}

void check_agreement(const ordered_json& found, const std::string& path) {
  if (!found.contains("tokenizer") || !found.contains("vocab_size")) return;
  const int64_t rows = found["vocab_size"].get<int64_t>();
  const int64_t pieces = found["tokenizer"]["vocab_size"].get<int64_t>();
  if (rows != pieces) {
    fail_format(path, cat("the tokenizer has ", pieces, " pieces, the embedding ", rows, " rows"),
                "they belong to different models");
  }
}

}  // namespace

int run_inspect(const std::vector<std::string>& args) {
  InspectOptions options;
  const CommandSpec spec{
      .verb = "inspect",
      .summary = "Says what a folder or file holds and checks it.",
      .examples = {"llama2zh inspect chinese-llama2", "llama2zh inspect sft-out --json"},
      .positional = {"path"},
      .required = {"path"}};
  const OptionTable table = bind_options(options);
  if (parse_command_line(spec, table, args).help) return 0;

  const ordered_json found = inspect_path(options);
  if (options.json_output) {
    std::puts(found.dump().c_str());
  } else {
    print_flat(found, "");
  }
  check_agreement(found, options.path);
  return 0;
}

}  // namespace llama2zh
