// The embedded files as cmake/EmbedFiles.cmake lists them, in no order.
#pragma once

#include <vector>

#include "llama2zh/serve/page_files.h"

namespace llama2zh {

const std::vector<PageFile>& page_data();

}  // namespace llama2zh
