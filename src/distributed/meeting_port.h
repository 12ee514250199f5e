#pragma once

#include <cstdint>
#include <string>

namespace llama2zh {

// A port that is free at this address of this host now.
int64_t free_port(const std::string& address);
// kUsage unless host 0 can listen there: the address must be one of its own, the port free.
void check_port(const std::string& address, int64_t port);

}  // namespace llama2zh
