// The server as a whole: which requests are let in, and which thread works on them. The HTTP thread
// answers what costs nothing; the rest goes to a few workers, which read bodies and tokenise, and
// from there to the engine.
#include "llama2zh/serve/server.h"

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

#include "llama2zh/base/error.h"
#include "llama2zh/base/log.h"
#include "llama2zh/base/log_thread.h"
#include "llama2zh/base/text.h"
#include "serve/access.h"
#include "serve/access_log.h"
#include "serve/api_error.h"
#include "serve/metrics.h"
#include "serve/page_response.h"
#include "serve/routes.h"
#include "serve/served_model.h"
#include "serve/with_headers.h"

namespace llama2zh {
namespace {

using Owner = std::shared_ptr<HttpExchange>;
constexpr size_t kWorkers = 2;

HttpResponse text_response(int status, const std::string& type, std::string body) {
  return {status, type, std::move(body), {}};
}

bool is_read(const HttpRequest& request) {
  return request.method == "GET" || request.method == "HEAD";
}

ApiError loading_error() { return {503, "the model is being loaded", "", "loading", 1}; }
ApiError draining_error() { return {503, "the server is shutting down", "", "shutting_down", 5}; }

}  // namespace

class ModelServer::Implementation {
 public:
  explicit Implementation(const ServerOptions& options)
      : options_(options),
        name_(options.serve.served_model_name.empty() ? options.model_name
                                                      : options.serve.served_model_name),
        access_(options.serve, options.http.host),
        metrics_(name_),
        http_(options.http, hooks()) {}
  ~Implementation() { stop(); }

  uint16_t port() const { return http_.port(); }
  bool has_keys() const { return access_.wants_keys(); }
  bool is_https() const { return !options_.http.tls_certificate.empty(); }
  void start() { http_.start(); }

  void check_adapter_name(const std::string& name) const {
    if (name != name_) return;
    fail_usage("adapter", cat("\"", name, "\" is the model's own name for clients"),
               "give the adapter another, or the model by --served-model-name");
  }

  void set_model(LoadedModel model) {
    for (const std::string& name : model.adapters->names()) check_adapter_name(name);
    model_ = std::make_unique<ServedModel>(
        std::move(model), options_.engine, options_.serve, name_, options_.model_root, metrics_,
        [this](std::function<void()> work) { post_work(std::move(work)); });
    ready_ = model_.get();
  }

  void reload_adapters(const std::vector<std::pair<std::string, std::string>>& folders) {
    ServedModel* model = ready_;
    if (model == nullptr) return;
    for (const auto& [name, folder] : folders) {
      try {
        model->loaded.adapters->put(name, folder);
        log_info(cat("adapter ", name, " read again from ", folder));
      } catch (const std::exception& error) {  // for want of memory, say: the server goes on
        log_error(cat("adapter ", name, " stays as it was: ", error.what()));
      }
    }
  }

  bool drain(double seconds, const std::function<bool()>& give_up) {
    draining_ = true;
    http_.close_after_answers();
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (http_.unanswered() > 0) {
      if (std::chrono::steady_clock::now() > end || give_up()) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
  }

  // First the sockets, which cancels what is under way; then the engine; exchanges die with it.
  void stop() {
    http_.stop();
    workers_.join();
    ready_ = nullptr;
    model_.reset();
  }

 private:
  void post_work(std::function<void()> work) {
    boost::asio::post(workers_, [work = std::move(work)] {
      try {
        work();
      } catch (const std::exception& error) {
        log_error(error.what());
      }
    });
  }

  HttpHooks hooks() {
    HttpHooks out;
    out.handler = [this](const Owner& exchange) { handle(exchange); };
    out.on_bad_request = [](int status, std::string_view reason) {
      return error_response({status, std::string(reason), "", "", 0});
    };
    out.on_head = [this](const HttpRequest& head) { return refused_head(head); };
    out.on_access = [this](const HttpAccess& access) { note(access); };
    return out;
  }

  void note(const HttpAccess& access) {
    metrics_.count_request(
        std::string(access.request == nullptr ? "other" : route_name(access.request->path)),
        access.status);
    if (options_.serve.access_log == "text") log_info(access_text(access));
    if (options_.serve.access_log == "json") log_plain(access_json(access));
  }

  // Strangers' bodies are not read: who is refused is told so before.
  std::optional<HttpResponse> refused_head(const HttpRequest& head) const {
    const std::optional<ApiError> refusal = access_.refusal(head, false);
    if (!refusal) return std::nullopt;
    HttpResponse response = error_response(*refusal);
    for (HttpHeader& header : access_.cors_headers(head))
      response.headers.push_back(std::move(header));
    return response;
  }

  static void respond_with_error(HttpExchange& exchange, const std::exception_ptr& error) {
    try {
      exchange.respond(error_response(api_error_of(error)));
    } catch (const std::exception& failure) {  // it was answered already
      log_error(failure.what());
    }
  }

  void handle(Owner exchange) {
    const HttpRequest& request = exchange->request();
    std::vector<HttpHeader> cors = access_.cors_headers(request);
    if (!cors.empty()) exchange = std::make_shared<WithHeaders>(exchange, std::move(cors));
    try {
      if (request.method == "OPTIONS") return respond_to_options(*exchange);
      if (respond_openly(*exchange)) return;
      std::string allowed;
      const ModelRoute* route = find_route(request.method, request.path, allowed);
      if (const auto refusal = access_.refusal(request, false)) throw ApiFailure(*refusal);
      if (request.path == "/metrics" && is_read(request)) return respond_with_metrics(*exchange);
      if (request.path == "/version" && is_read(request))
        return exchange->respond(text_response(200, "application/json",
                                               json{{"version", LLAMA2ZH_VERSION}}.dump() + "\n"));
      if (route == nullptr) return respond_without_route(*exchange, allowed);
      if (route->loads_adapters && !options_.serve.allow_adapter_loading)
        throw ApiFailure({403,
                          "adapters can't be loaded over HTTP unless the server was started "
                          "with --allow-adapter-loading",
                          "", "", 0});
      ServedModel* model = ready_;
      if (model == nullptr) throw ApiFailure(loading_error());
      if (draining_) throw ApiFailure(draining_error());
      if (route->method == "GET") return route->handler(*model, exchange);  // costs nothing
      boost::asio::post(workers_, [route, model, exchange] {
        if (exchange->gone()) return;
        try {
          route->handler(*model, exchange);
        } catch (...) {
          respond_with_error(*exchange, std::current_exception());
        }
      });
    } catch (...) {
      respond_with_error(*exchange, std::current_exception());
    }
  }

  // What needs no key. The Host header is checked all the same.
  bool respond_openly(HttpExchange& exchange) {
    const HttpRequest& request = exchange.request();
    const auto check = [&] {
      if (const auto refusal = access_.refusal(request, true)) throw ApiFailure(*refusal);
    };
    if (!is_read(request)) return false;
    if (request.path == "/health" || request.path == "/ping" || request.path == "/is_ready") {
      check();
      const bool ready = ready_ != nullptr && !draining_;
      if (!ready) {
        exchange.respond(error_response(draining_ ? draining_error() : loading_error()));
      } else {
        exchange.respond(
            text_response(200, "application/json",
                          request.path == "/is_ready" ? "true\n" : "{\"status\":\"ok\"}\n"));
      }
      return true;
    }
    if (std::optional<HttpResponse> page = page_response(request)) {
      check();
      exchange.respond(*std::move(page));
      return true;
    }
    return false;
  }

  void respond_to_options(HttpExchange& exchange) {
    HttpResponse response{204, "", "", {{"Allow", "GET, HEAD, POST, OPTIONS"}}};
    if (access_.is_listed(exchange.request())) {
      response.headers.push_back({"Access-Control-Allow-Methods", "GET, POST, OPTIONS"});
      const std::string_view asked = exchange.request().header("Access-Control-Request-Headers");
      response.headers.push_back(
          {"Access-Control-Allow-Headers",
           asked.empty() ? "Authorization, Content-Type, X-Request-Id" : std::string(asked)});
      response.headers.push_back({"Access-Control-Max-Age", "3600"});
    }
    exchange.respond(std::move(response));
  }

  void respond_with_metrics(HttpExchange& exchange) {
    ServedModel* model = ready_;
    const EngineStats stats = model == nullptr ? EngineStats() : model->engine.stats();
    exchange.respond(
        text_response(200, "text/plain; version=0.0.4; charset=utf-8",
                      metrics_.text(model == nullptr ? nullptr : &stats, http_.connections(),
                                    model == nullptr ? 0 : model->admission.refusals())));
  }

  static void respond_without_route(HttpExchange& exchange, const std::string& allowed) {
    const HttpRequest& request = exchange.request();
    if (allowed.empty())
      throw ApiFailure({404, cat("there is nothing at ", request.path), "", "", 0});
    HttpResponse response =
        error_response({405, cat(request.path, " is for ", allowed, " only"), "", "", 0});
    response.headers.push_back({"Allow", allowed});
    exchange.respond(std::move(response));
  }

  ServerOptions options_;
  std::string name_;
  Access access_;
  Metrics metrics_;
  std::unique_ptr<ServedModel> model_;
  std::atomic<ServedModel*> ready_ = nullptr;  // null while the model is loading
  std::atomic<bool> draining_ = false;
  boost::asio::thread_pool workers_{kWorkers};
  HttpServer http_;  // last: its thread uses the others
};

ModelServer::ModelServer(const ServerOptions& options)
    : implementation_(std::make_unique<Implementation>(options)) {}
ModelServer::~ModelServer() = default;
uint16_t ModelServer::port() const { return implementation_->port(); }
bool ModelServer::has_keys() const { return implementation_->has_keys(); }
bool ModelServer::is_https() const { return implementation_->is_https(); }
void ModelServer::start() { implementation_->start(); }
void ModelServer::check_adapter_name(const std::string& name) const {
  implementation_->check_adapter_name(name);
}
void ModelServer::set_model(LoadedModel model) { implementation_->set_model(std::move(model)); }
void ModelServer::reload_adapters(const std::vector<std::pair<std::string, std::string>>& folders) {
  implementation_->reload_adapters(folders);
}
bool ModelServer::drain(double seconds, const std::function<bool()>& give_up) {
  return implementation_->drain(seconds, give_up);
}
void ModelServer::stop() { implementation_->stop(); }

}  // namespace llama2zh
