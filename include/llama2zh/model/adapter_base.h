#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace llama2zh {

// kFormat if the adapter's manifest says that it was trained on another base than the one at
// `base`, whose model_identity() is `identity()`: of the same shape it would load and answer badly.
// Adapters without our manifest, PEFT's own among them, say nothing and pass; identity() is not
// asked for then. `option` is the one by which to go on all the same.
void check_adapter_base(const std::filesystem::path& adapter, const std::filesystem::path& base,
                        const std::function<std::string()>& identity, const std::string& option);

}  // namespace llama2zh
