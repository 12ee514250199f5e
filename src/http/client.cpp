// A blocking client on Boost.Beast.
#include "llama2zh/http/client.h"

#include <sys/socket.h>
#include <sys/time.h>

#include "http/asio.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

void limit_reads(tcp::socket& socket, double seconds) {
  timeval limit{};
  limit.tv_sec = static_cast<time_t>(seconds);
  limit.tv_usec = static_cast<suseconds_t>((seconds - static_cast<double>(limit.tv_sec)) * 1e6);
  ::setsockopt(socket.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

http::request<http::string_body> message_of(const HttpCall& call) {
  http::request<http::string_body> message;
  message.version(11);
  message.method_string(call.method);
  message.target(call.target);
  message.set(http::field::host, cat(call.host, ":", call.port));
  message.set(http::field::connection, "close");
  for (const HttpHeader& header : call.headers) message.set(header.name, header.value);
  message.body() = call.body;
  if (!call.body.empty() || call.method == "POST") message.prepare_payload();
  return message;
}

// The body, piece by piece. False where the listener hung up.
bool read_body(tcp::socket& socket, beast::flat_buffer& buffer,
               http::response_parser<http::buffer_body>& parser, const HttpCall& call,
               HttpAnswer& answer) {
  char piece[16384];
  while (!parser.is_done()) {
    parser.get().body().data = piece;
    parser.get().body().size = sizeof(piece);
    ErrorCode error;
    http::read_some(socket, buffer, parser, error);
    if (error && error != http::error::need_buffer)
      fail_io(cat(call.host, ":", call.port), cat("the answer broke off: ", error.message()));
    const std::string_view text(piece, sizeof(piece) - parser.get().body().size);
    if (text.empty()) continue;
    if (!call.on_piece)
      answer.body += text;
    else if (!call.on_piece(text))
      return false;
  }
  return true;
}

}  // namespace

std::string_view HttpAnswer::header(std::string_view name) const {
  for (const HttpHeader& entry : headers)
    if (equal_ignoring_case(entry.name, name)) return entry.value;
  return {};
}

HttpAnswer http_call(const HttpCall& call) {
  const std::string where = cat(call.host, ":", call.port);
  ErrorCode error;
  asio::io_context io;
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(call.host, std::to_string(call.port), error);
  if (error) fail_io(where, cat("no such host: ", error.message()));
  tcp::socket socket(io);
  asio::connect(socket, found, error);
  if (error) fail_io(where, cat("can't be connected to: ", error.message()));
  socket.set_option(tcp::no_delay(true), error);
  limit_reads(socket, call.timeout);
  http::write(socket, message_of(call), error);
  if (error) fail_io(where, cat("the request could not be sent: ", error.message()));

  beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  if (call.method == "HEAD") parser.skip(true);
  http::read_header(socket, buffer, parser, error);
  if (error) fail_io(where, cat("no answer came: ", error.message()));
  HttpAnswer answer;
  answer.status = static_cast<int>(parser.get().result_int());
  for (const auto& field : parser.get())
    answer.headers.push_back({std::string(field.name_string()), std::string(field.value())});
  read_body(socket, buffer, parser, call, answer);
  return answer;
}

}  // namespace llama2zh
