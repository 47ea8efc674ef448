// Tasks against an OpenAI-style server on this machine: it answers, stalls, fails and lies.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "eval/evaluate.h"

namespace hadal::eval {
namespace {

using nlohmann::json;

struct Request {
  std::string head;
  json body;
};

// Answers one request a connection by what `handler` returns: status line and body.
class Server {
 public:
  using Handler = std::function<std::pair<std::string, std::string>(const Request&)>;
  explicit Server(Handler handler) : handler_(std::move(handler)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener_, 16), 0);
    EXPECT_EQ(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~Server() {
    stop_ = true;
    thread_.join();
    close(listener_);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/v1"; }
  int requests() const { return requests_; }

 private:
  void Serve() {
    while (!stop_) {
      pollfd ready{listener_, POLLIN, 0};
      if (poll(&ready, 1, 10) <= 0) continue;
      const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) continue;
      Answer(connection);
      close(connection);
    }
  }
  void Answer(int connection) {
    std::string text;
    char block[4096];
    size_t end = std::string::npos, wanted = 0;
    while (end == std::string::npos || text.size() < end + 4 + wanted) {
      const ssize_t n = recv(connection, block, sizeof block, 0);
      if (n <= 0) return;
      text.append(block, static_cast<size_t>(n));
      end = text.find("\r\n\r\n");
      if (const size_t at = text.find("Content-Length: "); at != std::string::npos) {
        wanted = std::strtoull(text.c_str() + at + 16, nullptr, 10);
      }
    }
    ++requests_;
    const auto [status, body] =
        handler_({text.substr(0, end), json::parse(text.substr(end + 4), nullptr, false)});
    const std::string answer = "HTTP/1.1 " + status +
                               "\r\nContent-Length: " + std::to_string(body.size()) +
                               "\r\nConnection: close\r\n\r\n" + body;
    send(connection, answer.data(), answer.size(), MSG_NOSIGNAL);
  }
  Handler handler_;
  int listener_ = -1, port_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<int> requests_{0};
  std::thread thread_;
};

std::string ChatAnswer(const std::string& content, const std::string& thought = {}) {
  json message = {{"role", "assistant"}, {"content", content}};
  if (!thought.empty()) message["reasoning_content"] = thought;
  return json{{"choices", json::array({{{"message", message}, {"finish_reason", "stop"}}})},
              {"usage", {{"prompt_tokens", 11}, {"completion_tokens", 4}}}}
      .dump();
}

EndpointOptions To(const Server& server) {
  EndpointOptions options;
  options.url = server.url();
  options.model = "some-model";
  options.concurrency = 2;
  options.timeout_seconds = 10;
  return options;
}

Result<std::vector<TaskResult>> Ask(const EndpointOptions& options, int64_t limit = 4) {
  const auto backend = OpenEndpointBackend(options);
  EXPECT_TRUE(backend.ok()) << (backend.ok() ? "" : backend.error().message);
  auto tasks = OpenTasks("chain:1", "");
  EXPECT_TRUE(tasks.ok());
  return Evaluate(**backend, *tasks, {.limit = limit, .max_tokens = 77, .seed = 3});
}

TEST(Endpoint, SameItemsSameGrades) {
  auto tasks = OpenTasks("chain:1", "");
  ASSERT_TRUE(tasks.ok());
  std::map<std::string, std::string> golds;
  for (int64_t i = 0; i < 4; ++i) golds[(*tasks)[0]->At(i).prompt] = (*tasks)[0]->At(i).gold;
  std::mutex mutex;
  std::set<std::string> authorizations;
  std::set<int64_t> budgets;
  const Server server([&](const Request& r) -> std::pair<std::string, std::string> {
    const std::scoped_lock lock(mutex);
    const size_t at = r.head.find("Authorization: ");
    if (at != std::string::npos) {
      authorizations.insert(r.head.substr(at + 15, r.head.find('\r', at) - at - 15));
    }
    EXPECT_EQ(r.head.substr(0, r.head.find('\r')), "POST /v1/chat/completions HTTP/1.1");
    EXPECT_EQ(r.body["model"], "some-model");
    EXPECT_EQ(r.body["stream"], false);
    EXPECT_EQ(r.body["temperature"], 0);
    budgets.insert(r.body["max_tokens"].get<int64_t>());
    const std::string prompt = r.body["messages"][0]["content"];
    return {"200 OK", ChatAnswer("so \\boxed{" + golds[prompt] + "}", "maybe \\boxed{9999}")};
  });
  EndpointOptions options = To(server);
  options.key = "secret";
  const auto results = Ask(options);
  ASSERT_TRUE(results.ok()) << results.error().message;
  EXPECT_EQ(results->front().correct, 4);
  EXPECT_EQ(results->front().tokens, 16);
  EXPECT_EQ(results->front().prompt_tokens, 44);
  EXPECT_EQ(authorizations, std::set<std::string>{"Bearer secret"});
  EXPECT_EQ(budgets, std::set<int64_t>{77});
}

TEST(Endpoint, FailuresAreErrorsWithTheServersWords) {
  const Server refusing([](const Request&) -> std::pair<std::string, std::string> {
    return {"401 Unauthorized", R"({"error":{"message":"bad key"}})"};
  });
  const auto refused = Ask(To(refusing), 2);
  ASSERT_TRUE(refused.ok());
  EXPECT_EQ(refused->front().errors, 2);
  EXPECT_EQ(refused->front().wrong, 0);
  EXPECT_NE(refused->front().first_error.find("HTTP 401: bad key"), std::string::npos);
  EXPECT_EQ(refusing.requests(), 2) << "what cannot get better is asked once";

  for (const char* body : {"", "[]", "{\"choices\":[]}", "{\"choices\":[3]}", "not json",
                           "{\"choices\":[{\"message\":7}]}"}) {
    const Server lying([&](const Request&) -> std::pair<std::string, std::string> {
      return {"200 OK", body};
    });
    const auto results = Ask(To(lying), 1);
    ASSERT_TRUE(results.ok());
    EXPECT_EQ(results->front().errors, 1) << body;
  }
}

TEST(Endpoint, BusyServersAreAskedAgain) {
  std::atomic<int> count{0};
  const Server server([&](const Request&) -> std::pair<std::string, std::string> {
    if (count++ == 0) return {"503 Busy", "later"};
    return {"200 OK", ChatAnswer("\\boxed{none}")};
  });
  const auto results = Ask(To(server), 1);
  ASSERT_TRUE(results.ok());
  EXPECT_EQ(results->front().errors, 0);
  EXPECT_EQ(results->front().wrong, 1);
  EXPECT_EQ(server.requests(), 2);
}

TEST(Endpoint, RedirectsAreNotFollowed) {
  const Server server([&](const Request&) -> std::pair<std::string, std::string> {
    return {"302 Found\r\nLocation: http://127.0.0.1:1/", ""};
  });
  const auto results = Ask(To(server), 1);
  ASSERT_TRUE(results.ok());
  EXPECT_NE(results->front().first_error.find("HTTP 302"), std::string::npos);
}

TEST(Endpoint, OptionsAreChecked) {
  const auto why = [](EndpointOptions options) {
    const auto backend = OpenEndpointBackend(options);
    return backend.ok() ? "opened" : backend.error().message;
  };
  EXPECT_NE(why({.url = "ftp://x", .model = "m"}).find("http://"), std::string::npos);
  EXPECT_NE(why({.url = "http://example.com/v1", .model = "m", .key = "k"}).find("never sent"),
            std::string::npos);
  EXPECT_EQ(why({.url = "http://example.com/v1", .model = "m"}), "opened");
  EXPECT_EQ(why({.url = "https://example.com/v1", .model = "m", .key = "k"}), "opened");
  EXPECT_NE(why({.url = "https://example.com/v1", .model = "m", .key = "k\r\nX: y"}).find("line"),
            std::string::npos);
  EXPECT_NE(why({.url = "http://localhost"}).find("which model"), std::string::npos);
}

}  // namespace
}  // namespace hadal::eval
