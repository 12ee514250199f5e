#pragma once

#include <cstdint>
#include <string>

#include "llama2zh/base/json.h"
#include "llama2zh/engine/session.h"

namespace llama2zh {

struct ComparedTextRule {
  std::string field = "auto";
  int64_t characters = 0;  // of the file, from its beginning; 0: all
  int64_t window = 512;    // within both models' contexts
};

// An entry of "files" in results.json: perplexity and bits of both, "distance" (null where the
// vocabularies differ). kData for a file without text.
ordered_json compare_on_text(const LoadedModel& a, const LoadedModel& b, const std::string& file,
                             const ComparedTextRule& rule);

}  // namespace llama2zh
