#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "llama2zh/base/json.h"
#include "llama2zh/http/client.h"

namespace llama2zh {

// A prompt, as a text or as token ids, and how long its answer is to be.
struct LoadPrompt {
  json prompt;
  int64_t max_tokens = 1;
};

// Load on a server that speaks OpenAI's /v1/completions, this one or another.
struct ServeLoad {
  HttpCall server;                  // host, port, headers
  std::string model;                // empty: not said
  std::vector<LoadPrompt> prompts;  // one request each
  // Requests a second, with exponential gaps, whether or not earlier ones are answered (an open
  // loop, as users come); 0: `concurrency` clients, each asking again once it has its answer.
  double rate = 0;
  int64_t concurrency = 1;
  int64_t seed = 0;
};

// What became of one request; times in seconds since the load began. With a rate `start` is when it
// was due: what a loaded client is late by is part of what users would wait.
struct LoadOutcome {
  double start = 0, first = 0, end = 0;  // first: of the first text
  std::vector<double> gaps;              // between pieces of text
  int64_t prompt_tokens = 0, output_tokens = 0;
  std::string error;  // empty: answered
};
// In the order of the prompts. A thread for each request under way. Stops early where a stop was
// asked for; what was not begun is an error.
std::vector<LoadOutcome> run_load(const ServeLoad& load);

}  // namespace llama2zh
