#pragma once

#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <map>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "llama2zh/distributed/rank_environment.h"

namespace llama2zh {

// The store of this run and restart, with all ranks there. kIo naming the missing ones.
c10::intrusive_ptr<c10d::Store> meet(const RankEnvironment& environment,
                                     std::chrono::milliseconds timeout);

// What each rank that was heard of was doing, this one too.
struct RollCall {
  std::map<int64_t, std::string> said;
  bool store_lost = false;  // whoever served it is gone: nobody else can be asked
};
// After an exchange failed: tells the others that this rank lives and what it was doing, and hears
// from them for a few seconds. A rank that says nothing is lost or hangs.
RollCall roll_call(c10d::Store& store, const RankEnvironment& environment,
                   const std::string& doing);

std::string ranks_text(const std::vector<int64_t>& ranks);  // "rank 1", "ranks 1, 3"

}  // namespace llama2zh
