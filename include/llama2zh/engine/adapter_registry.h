#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "llama2zh/engine/block_pool.h"
#include "llama2zh/model/llama.h"
#include "llama2zh/model/row_adapter.h"
#include "llama2zh/tokenizer/tokenizer.h"

namespace llama2zh {

struct NamedAdapter {
  std::string name;
  std::filesystem::path folder;
  std::shared_ptr<const RowAdapter> weights;
  BlockKey root;  // before the first block's tokens: keys and values are this adapter's
};

// The adapters that requests can name, all on one base model. They come and go while engines run; a
// request keeps the one it began with. Thread-safe.
class AdapterRegistry {
 public:
  // Model and tokenizer must outlive the registry. `base` is the model's folder; adapters whose
  // manifest names another base are refused unless `allow_other_base`.
  AdapterRegistry(Llama& model, const Tokenizer& tokenizer, std::filesystem::path base,
                  bool allow_other_base = false);

  // Reads an adapter folder. kUsage for a name that is empty or taken; kFormat if the folder is no
  // adapter, or does not belong to this base: vocabulary, tokenizer, shapes, base, rotary scaling.
  // After an error everything is as before.
  void add(const std::string& name, const std::filesystem::path& folder);
  // The same for a name that may be taken: requests that have begun go on with what they had.
  void put(const std::string& name, const std::filesystem::path& folder);
  bool remove(const std::string& name);  // false if there is none
  // kData if there is none of that name; null for "", the base model.
  std::shared_ptr<const NamedAdapter> find(const std::string& name) const;
  std::vector<std::string> names() const;

 private:
  void check(const std::filesystem::path& folder) const;
  std::shared_ptr<NamedAdapter> read(const std::string& name,
                                     const std::filesystem::path& folder) const;

  Llama* model_;
  const Tokenizer* tokenizer_;
  std::filesystem::path base_;
  bool allow_other_base_;
  mutable std::mutex mutex_;  // guards what follows
  std::map<std::string, std::shared_ptr<const NamedAdapter>> adapters_;
  int64_t last_number_ = 0;
};

}  // namespace llama2zh
