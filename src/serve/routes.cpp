// The table of routes.
#include "serve/routes.h"

#include <algorithm>
#include <array>

#include "serve/chat_route.h"
#include "serve/completion_route.h"
#include "serve/embedding_route.h"
#include "serve/model_routes.h"
#include "serve/original_routes.h"

namespace llama2zh {
namespace {

constexpr auto kRoutes = std::to_array<ModelRoute>({
    {"GET", "/v1/models", serve_models},
    {"GET", "/v1/models/", serve_one_model, true},
    {"POST", "/v1/chat/completions", serve_chat},
    {"POST", "/v1/completions", serve_completions},
    {"POST", "/v1/embeddings", serve_embeddings},
    {"POST", "/tokenize", serve_tokenize},
    {"POST", "/detokenize", serve_detokenize},
    {"POST", "/v1/load_lora_adapter", serve_load_adapter, false, true},
    {"POST", "/v1/unload_lora_adapter", serve_unload_adapter, false, true},
    {"POST", "/generate", serve_original_generate},
    {"POST", "/chatmed_generate", serve_original_generate},
    {"POST", "/llama_generate", serve_llama_generate},
    {"POST", "/llm_generate", serve_llm_generate},
});

constexpr auto kOpen =
    std::to_array<std::string_view>({"/health", "/metrics", "/version", "/is_ready", "/ping"});

bool is_open_path(std::string_view path) {
  return path == "/" || std::find(kOpen.begin(), kOpen.end(), path) != kOpen.end();
}

bool leads_to(const ModelRoute& route, std::string_view path) {
  return route.begins_by ? path.size() > route.path.size() && path.starts_with(route.path)
                         : path == route.path;
}

}  // namespace

const ModelRoute* find_route(std::string_view method, std::string_view path, std::string& allowed) {
  if (is_open_path(path)) allowed = "GET, HEAD";
  for (const ModelRoute& route : kRoutes) {
    if (!leads_to(route, path)) continue;
    if (route.method == method || (route.method == "GET" && method == "HEAD")) return &route;
    allowed = route.method == "GET" ? "GET, HEAD" : route.method;
  }
  return nullptr;
}

std::string_view route_name(std::string_view path) {
  if (path == "/" || path.starts_with("/assets/")) return "page";
  for (const std::string_view open : kOpen)
    if (path == open) return open;
  for (const ModelRoute& route : kRoutes)
    if (leads_to(route, path)) return route.path;
  return "other";
}

}  // namespace llama2zh
