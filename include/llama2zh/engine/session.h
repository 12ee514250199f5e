#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/engine/engine.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/tokenizer/chat_template.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

// A model folder made ready to answer: tokenizer, weights, adapters, chat template. What generate,
// chat, evaluate and serve start from.
struct LoadedModel {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Llama> model;
  const ChatTemplate* chat_template = nullptr;  // null: none known; chat needs --template then
  std::unique_ptr<AdapterRegistry> adapters;    // those that requests name

  std::unique_ptr<Llama> draft;  // null: none was asked for

  EngineParts parts() const { return {.adapters = adapters.get(), .draft = draft.get()}; }
};
struct LoadRequest {
  std::filesystem::path model;
  std::vector<std::filesystem::path> adapters;  // put on the model itself, in order
  // Beside it, for requests to name.
  std::vector<std::pair<std::string, std::filesystem::path>> named_adapters;
  std::filesystem::path draft_model;  // that guesses ahead for speculate = "draft"; empty: none
  std::filesystem::path tokenizer;    // empty: the adapter's folder if it has one, else the model's
  std::string template_name;  // empty: as stored with the last adapter that has one, or the model
  std::string dtype = "auto";
  std::string device = "auto";
  bool allow_other_base = false;  // go on where an adapter's manifest names another base
};
// Vocabulary sizes are compared before any weight is loaded. Throws Stopped where a stop is asked for
// on the way.
LoadedModel load_for_inference(const LoadRequest& request);

}  // namespace llama2zh
