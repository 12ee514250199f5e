#include "llama2zh/model/adapter_base.h"

#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/manifest.h"

namespace llama2zh {

void check_adapter_base(const std::filesystem::path& adapter, const std::filesystem::path& base,
                        const std::function<std::string()>& identity, const std::string& option) {
  if (!has_manifest(adapter)) return;
  const std::string wanted = read_manifest(adapter).base_identity;
  if (wanted.empty()) return;
  const std::string found = identity();
  if (found == wanted) return;
  fail_format(
      adapter.string(),
      cat("the adapter was trained on another base than ", base.string(), " (its manifest names ",
          wanted.substr(0, 12), ", this is ", found.substr(0, 12), ")"),
      cat("take the base that it was trained on, or go on with ", option,
          " if this one stands for it: in another type, or with the adapters before it "
          "merged in"));
}

}  // namespace llama2zh
