#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "llama2zh/http/server.h"

namespace llama2zh {

// An exchange whose answer gets more headers.
class WithHeaders final : public HttpExchange {
 public:
  WithHeaders(std::shared_ptr<HttpExchange> inner, std::vector<HttpHeader> headers)
      : inner_(std::move(inner)), headers_(std::move(headers)) {}
  const HttpRequest& request() const override { return inner_->request(); }
  void respond(HttpResponse response) override { inner_->respond(with_more(std::move(response))); }
  void begin(HttpResponse head) override { inner_->begin(with_more(std::move(head))); }
  bool write(std::string piece) override { return inner_->write(std::move(piece)); }
  void end() override { inner_->end(); }
  bool gone() const override { return inner_->gone(); }
  void on_gone(std::function<void()> callback) override { inner_->on_gone(std::move(callback)); }

 private:
  HttpResponse with_more(HttpResponse response) const {
    response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
    return response;
  }
  std::shared_ptr<HttpExchange> inner_;
  std::vector<HttpHeader> headers_;
};

}  // namespace llama2zh
