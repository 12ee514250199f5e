#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "llama2zh/engine/engine_config.h"
#include "llama2zh/engine/session.h"
#include "llama2zh/http/server.h"
#include "llama2zh/serve/serve_config.h"

namespace llama2zh {

struct ServerOptions {
  HttpServerConfig http;
  ServeConfig serve;
  EngineConfig engine;
  std::string model_name;  // where serve.served_model_name is empty
  std::string model_root;  // as /v1/models tells it
};

// One port for OpenAI's clients, the original system's and browsers. It answers from start() on: 503
// while the model is being loaded.
class ModelServer {
 public:
  // Everything that can be wrong with the options is found here: kUsage, kIo, kFormat.
  explicit ModelServer(const ServerOptions& options);
  ~ModelServer();  // stops
  ModelServer(const ModelServer&) = delete;
  ModelServer& operator=(const ModelServer&) = delete;

  uint16_t port() const;
  bool has_keys() const;
  bool is_https() const;
  void start();
  // kUsage for the name that clients call the model itself by.
  void check_adapter_name(const std::string& name) const;
  // Once; from now on requests are answered. Its adapters' names are checked as above.
  void set_model(LoadedModel model);
  // Reads the adapters' folders again, those that are named in `folders` (name, folder): new requests
  // get the new weights. One that can't be read or does not fit is reported, and the one before stays.
  void reload_adapters(const std::vector<std::pair<std::string, std::string>>& folders);
  // New requests get 503; waits for those under way, `seconds` at most, or until `give_up()`. True if
  // all were answered.
  bool drain(double seconds, const std::function<bool()>& give_up);
  void stop();

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace llama2zh
