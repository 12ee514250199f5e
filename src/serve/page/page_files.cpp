// Looks up the embedded files: a few dozen, so a scan over them is as good as a table.
#include "llama2zh/serve/page_files.h"

#include <algorithm>

#include "serve/page/page_data.h"

namespace llama2zh {

std::span<const PageFile> page_files() { return page_data(); }

const PageFile* find_page_file(std::string_view path) {
  const auto files = page_files();
  const auto found = std::ranges::find(files, path, &PageFile::path);
  return found == files.end() ? nullptr : &*found;
}

}  // namespace llama2zh
