// llama2zh serve: an HTTP server for one model and its adapters. The port answers at once, 503 while
// the model is loaded; SIGHUP reads named adapters again; SIGTERM lets running requests end.
#include <chrono>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "commands/inference_options.h"
#include "commands/verbs.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/log_thread.h"
#include "llama2zh/base/signals.h"
#include "llama2zh/base/text.h"
#include "llama2zh/config/command_line.h"
#include "llama2zh/serve/server.h"

namespace llama2zh {
namespace {

struct ServeOptions {
  std::string template_name;
  static auto options() {
    return std::tuple(option("template", &ServeOptions::template_name,
                             "Chat template; empty: the one stored with the model or adapter."));
  }
};

std::string name_of(const std::string& model) {
  std::filesystem::path path = std::filesystem::path(model).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

std::string address_of(const ServerOptions& options, const ModelServer& server) {
  const std::string& host = options.http.host;
  const bool is_v6 = host.find(':') != std::string::npos;
  return cat(server.is_https() ? "https://" : "http://", is_v6 ? "[" : "", host, is_v6 ? "]" : "",
             ":", server.port());
}

void warn_of_open_doors(const ServerOptions& options, const ModelServer& server) {
  const std::string& host = options.http.host;
  if (server.has_keys() || is_loopback_host(host)) return;
  log_warning(cat(host,
                  " can be reached from elsewhere, and no API key is asked for: give "
                  "--api-key-file F"));
}

void check_template(const LoadedModel& loaded) {
  if (loaded.chat_template != nullptr) return;
  log_warning(
      "neither model nor tokenizer names a chat template that is known here: /v1/chat/completions "
      "is refused; --template NAME says which it was trained with");
}

void wait_for_signals(ModelServer& server,
                      const std::vector<std::pair<std::string, std::string>>& adapters) {
  while (!stop_requested()) {
    if (take_reload()) server.reload_adapters(adapters);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace

int run_serve(const std::vector<std::string>& args) {
  InferenceOptions inference;
  SpeculationOptions speculation;
  ServeOptions own;
  ServerOptions options;
  const OptionTable table = join_tables({bind_options(inference), bind_options(own),
                                         bind_options(options.http), bind_options(options.serve),
                                         bind_options(options.engine), bind_options(speculation)});
  const CommandSpec spec{
      .verb = "serve",
      .summary = "Answer OpenAI's clients, the original system's and browsers over HTTP.",
      .examples = {"llama2zh serve --model MODEL",
                   "llama2zh serve --model MODEL --adapter medical=runs/medical law=runs/law "
                   "--host 0.0.0.0 --api-key-file keys.txt",
                   "llama2zh serve --model MODEL --port 8443 --tls-certificate cert.pem --tls-key "
                   "key.pem",
                   "curl http://127.0.0.1:8000/v1/chat/completions -d '{\"messages\": [{\"role\": "
                   "\"user\", \"content\": \"你好\"}]}'"},
      .positional = {},
      .required = {"model"}};
  if (parse_command_line(spec, table, args).help) return 0;
  LoadRequest request = inference.request(own.template_name);
  speculation.apply(options.engine, request);
  options.model_name = name_of(inference.model);
  options.model_root = inference.model;

  const LogThread log_thread;  // no thread that answers waits for standard error
  ModelServer server(options);
  for (const auto& [name, folder] : request.named_adapters) server.check_adapter_name(name);
  install_stop_signals();
  install_reload_signal();
  server.start();
  log_info(cat("listening at ", address_of(options, server), "; loading ", inference.model));
  warn_of_open_doors(options, server);
  const auto begin = std::chrono::steady_clock::now();
  try {
    LoadedModel loaded = load_for_inference(request);
    check_template(loaded);
    server.set_model(std::move(loaded));
  } catch (const Stopped&) {
    log_info("stopped while loading");
    return 0;
  }
  std::vector<std::pair<std::string, std::string>> adapters;
  for (const auto& [name, folder] : request.named_adapters)
    adapters.emplace_back(name, folder.string());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  log_info(cat("ready after ", rounded(took.count(), 2), " s; Ctrl-C ends"));

  wait_for_signals(server, adapters);
  log_info("no new requests are taken; those under way end first, a second signal ends at once");
  if (!server.drain(options.serve.drain_timeout, [] { return false; }))
    log_warning(cat("not all requests ended within ", options.serve.drain_timeout,
                    " s; the rest is cut off"));
  server.stop();
  log_info("stopped");
  return 0;
}

}  // namespace llama2zh
