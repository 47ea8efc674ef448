// A small HTTP/1.1 server on 127.0.0.1 for tests of downloading: it misbehaves as told.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace hadal::cli {

struct HttpRequest {
  std::string path;
  std::map<std::string, std::string> headers;  // names in lower case
  int number = 0;                              // 0 for the first request of the server's life
};

// What to send: `head` and then `body`, then, when `hang` is set, nothing for as long as the server
// lives (a stall); the connection is closed after each answer.
struct HttpAnswer {
  std::string head, body;
  bool hang = false;
};

class TestHttpServer {
 public:
  using Handler = std::function<HttpAnswer(const HttpRequest&)>;
  explicit TestHttpServer(Handler handler);
  ~TestHttpServer();

  std::string Url(const std::string& path) const;
  std::vector<HttpRequest> requests() const;

 private:
  void Serve();
  void Answer(int connection);
  Handler handler_;
  int listener_ = -1, port_ = 0;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  std::vector<HttpRequest> requests_;
  std::thread thread_;
};

// A well-behaved answer: 200, or 206 when the request has a Range (and If-Range matches `etag`).
HttpAnswer ServeFile(const HttpRequest& request, const std::string& content,
                     const std::string& etag);
// A 302 to `location`.
HttpAnswer Redirect(const std::string& location, const std::string& further_headers = "");

}  // namespace hadal::cli
