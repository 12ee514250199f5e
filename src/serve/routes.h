#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "llama2zh/http/server.h"
#include "serve/served_model.h"

namespace llama2zh {

using ModelHandler = void (*)(ServedModel& model, const std::shared_ptr<HttpExchange>& exchange);

// A route that the model answers. All want a key, where there are keys.
struct ModelRoute {
  std::string_view method, path;
  ModelHandler handler;
  bool begins_by = false;  // the path goes on
  bool loads_adapters = false;
};

// The route of a path; null: there is none. Where there is one for another method only, `allowed` gets
// that method and the route is null.
const ModelRoute* find_route(std::string_view method, std::string_view path, std::string& allowed);
// The name of a path's route for metrics: a route's path, or "other".
std::string_view route_name(std::string_view path);

}  // namespace llama2zh
