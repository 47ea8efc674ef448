#include "cli/testing_http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/check.h"

namespace hadal::cli {
namespace {

void SendAll(int connection, const std::string& text) {
  size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t n = send(connection, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return;
    sent += static_cast<size_t>(n);
  }
}

HttpRequest Parse(const std::string& text) {
  HttpRequest request;
  const size_t path = text.find(' ') + 1;
  request.path = text.substr(path, text.find(' ', path) - path);
  for (size_t at = text.find("\r\n") + 2; at < text.size();) {
    const size_t end = text.find("\r\n", at);
    const std::string line = text.substr(at, end - at);
    at = end + 2;
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    std::string name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(), ::tolower);
    request.headers[name] = line.substr(colon + 2);
  }
  return request;
}

}  // namespace

TestHttpServer::TestHttpServer(Handler handler) : handler_(std::move(handler)) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
  CHECK(listen(listener_, 16) == 0);
  CHECK(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { Serve(); });
}

TestHttpServer::~TestHttpServer() {
  stop_ = true;
  thread_.join();
  close(listener_);
}

std::string TestHttpServer::Url(const std::string& path) const {
  return "http://127.0.0.1:" + std::to_string(port_) + path;
}

std::vector<HttpRequest> TestHttpServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void TestHttpServer::Serve() {
  while (!stop_) {
    pollfd ready{listener_, POLLIN, 0};
    if (poll(&ready, 1, 20) <= 0) continue;
    const int connection = accept(listener_, nullptr, nullptr);
    if (connection < 0) continue;
    Answer(connection);
    close(connection);
  }
}

void TestHttpServer::Answer(int connection) {
  std::string text;
  char chunk[4096];
  while (text.find("\r\n\r\n") == std::string::npos) {
    const ssize_t n = recv(connection, chunk, sizeof chunk, 0);
    if (n <= 0) return;
    text.append(chunk, static_cast<size_t>(n));
  }
  HttpRequest request = Parse(text);
  {
    const std::lock_guard lock(mutex_);
    request.number = static_cast<int>(requests_.size());
    requests_.push_back(request);
  }
  const HttpAnswer answer = handler_(request);
  SendAll(connection, answer.head + answer.body);
  while (answer.hang && !stop_) {
    pollfd gone{connection, POLLIN, 0};  // readable: the client gave up
    if (poll(&gone, 1, 20) > 0) return;
  }
}

HttpAnswer ServeFile(const HttpRequest& request, const std::string& content,
                     const std::string& etag) {
  const auto range = request.headers.find("range");
  const auto if_range = request.headers.find("if-range");
  const bool same = if_range == request.headers.end() || if_range->second == etag;
  const std::string tag = etag.empty() ? "" : "ETag: " + etag + "\r\n";
  if (range == request.headers.end() || !same) {
    return {"HTTP/1.1 200 OK\r\n" + tag + "Content-Length: " + std::to_string(content.size()) +
                "\r\nConnection: close\r\n\r\n",
            content};
  }
  const size_t from = std::stoul(range->second.substr(6));  // bytes=N-
  if (from >= content.size()) {
    return {"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ""};
  }
  return {"HTTP/1.1 206 Partial Content\r\n" + tag + "Content-Range: bytes " +
              std::to_string(from) + "-" + std::to_string(content.size() - 1) + "/" +
              std::to_string(content.size()) + "\r\nContent-Length: " +
              std::to_string(content.size() - from) + "\r\nConnection: close\r\n\r\n",
          content.substr(from)};
}

HttpAnswer Redirect(const std::string& location, const std::string& further_headers) {
  return {"HTTP/1.1 302 Found\r\nLocation: " + location + "\r\n" + further_headers +
              "Content-Length: 5\r\nConnection: close\r\n\r\n",
          "moved"};
}

}  // namespace hadal::cli
