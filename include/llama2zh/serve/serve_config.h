#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "llama2zh/config/option.h"

namespace llama2zh {

// Who may ask for what, and how much.
struct ServeConfig {
  std::string served_model_name;
  std::string api_key_file;
  std::vector<std::string> cors_origins;
  std::vector<std::string> allowed_hosts;
  int64_t max_queue_requests = 256;
  int64_t max_queue_tokens = 1048576;
  int64_t max_n = 16;
  int64_t max_new_tokens_limit = 0;
  int64_t max_stop_texts = 16;
  int64_t max_prompts = 2048;
  double request_timeout = 600;
  double drain_timeout = 60;
  std::string access_log = "text";
  bool log_prompts = false;
  bool allow_adapter_loading = false;
  bool allow_priority = false;
  static auto options() {
    using T = ServeConfig;
    return std::tuple(
        option("served_model_name", &T::served_model_name,
               "Name of the model for clients; empty: that of its folder."),
        option("api_key_file", &T::api_key_file,
               "File with one key a line (# begins a comment); with it, or with keys separated by "
               "commas in LLAMA2ZH_API_KEYS, every route but health and the page wants "
               "`Authorization: Bearer KEY`."),
        option("cors_origins", &T::cors_origins,
               "Origins whose pages may call this server (https://example.org); * for all."),
        option("allowed_hosts", &T::allowed_hosts,
               "Names that requests may call this server by in their Host header; empty: on a "
               "loopback address localhost and loopback addresses, else any."),
        option("max_queue_requests", &T::max_queue_requests,
               "Answers that may wait beside the max_running that are made; more are refused with "
               "429. n answers count n.",
               at_least(0)),
        option("max_queue_tokens", &T::max_queue_tokens,
               "Tokens of the prompts of all requests that are not yet answered; more are refused "
               "with 429.",
               at_least(1)),
        option("max_n", &T::max_n, "Largest n and best_of of a request.", between(1, 4096)),
        option("max_new_tokens_limit", &T::max_new_tokens_limit,
               "Largest max_tokens of a request; 0: what the context allows.", at_least(0)),
        option("max_stop_texts", &T::max_stop_texts, "Stop texts of a request, at most.",
               between(1, 1024)),
        option("max_prompts", &T::max_prompts,
               "Prompts or texts in one request for completions or embeddings, at most.",
               between(1, 65536)),
        option("request_timeout", &T::request_timeout,
               "Seconds that a request may take from its arrival to its end, waiting included.",
               between(0.001, 1e6)),
        option("drain_timeout", &T::drain_timeout,
               "Seconds that running requests have to end after the first SIGTERM or Ctrl-C.",
               between(0, 1e6)),
        option("access_log", &T::access_log,
               "A line for each request on standard error: as text, as JSON, or none.",
               one_of({"text", "json", "none"})),
        option("log_prompts", &T::log_prompts, "Prompts and answers too."),
        option("allow_adapter_loading", &T::allow_adapter_loading,
               "Let clients load and remove adapters: POST /v1/load_lora_adapter and "
               "/v1/unload_lora_adapter. They name folders of this machine."),
        option("allow_priority", &T::allow_priority,
               "Let clients set `priority`, by which requests go before those of others."));
  }
};

}  // namespace llama2zh
