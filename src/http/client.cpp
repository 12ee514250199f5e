// A blocking client on Boost.Beast.
#include "llama2zh/http/client.h"

#include <poll.h>

#include <algorithm>

#include "http/asio.h"
#include "llama2zh/base/error.h"
#include "llama2zh/base/text.h"

namespace llama2zh {
namespace {

// A socket whose reads end with an error when nothing comes for so long: Asio's own wait for ever.
class PatientSocket {
 public:
  PatientSocket(tcp::socket& socket, double seconds)
      : socket_(&socket), milliseconds_(static_cast<int>(std::min(seconds * 1000, 2e9))) {}
  template <typename Buffers>
  size_t read_some(const Buffers& buffers, ErrorCode& error) {
    pollfd waiting{socket_->native_handle(), POLLIN, 0};
    if (::poll(&waiting, 1, milliseconds_) == 0) {
      error = asio::error::timed_out;
      return 0;
    }
    return socket_->read_some(buffers, error);
  }
  template <typename Buffers>
  size_t read_some(const Buffers& buffers) {
    ErrorCode error;
    const size_t bytes = read_some(buffers, error);
    if (error) throw boost::system::system_error(error);
    return bytes;
  }

 private:
  tcp::socket* socket_;
  int milliseconds_;
};

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
bool read_body(PatientSocket& socket, beast::flat_buffer& buffer,
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
  http::write(socket, message_of(call), error);
  if (error) fail_io(where, cat("the request could not be sent: ", error.message()));

  beast::flat_buffer buffer;
  http::response_parser<http::buffer_body> parser;
  parser.body_limit(boost::none);
  if (call.method == "HEAD") parser.skip(true);
  PatientSocket reader(socket, call.timeout);
  http::read_header(reader, buffer, parser, error);
  if (error) fail_io(where, cat("no answer came: ", error.message()));
  HttpAnswer answer;
  answer.status = static_cast<int>(parser.get().result_int());
  for (const auto& field : parser.get())
    answer.headers.push_back({std::string(field.name_string()), std::string(field.value())});
  read_body(reader, buffer, parser, call, answer);
  return answer;
}

}  // namespace llama2zh
