// Prompts to an OpenAI-style server: POST {url}/chat/completions, not streamed.
#include <curl/curl.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/hash.h"
#include "eval/backend.h"

namespace hadal::eval {
namespace {

using nlohmann::json;

constexpr size_t kMostAnswerBytes = 32 << 20;
constexpr int kMostConcurrency = 256;

struct Body {
  std::string text;
  bool full = false;
};

size_t Receive(char* data, size_t size, size_t count, void* user) {
  auto& body = *static_cast<Body*>(user);
  const size_t bytes = size * count;
  if (body.text.size() + bytes > kMostAnswerBytes) {
    body.full = true;
    return 0;
  }
  body.text.append(data, bytes);
  return bytes;
}

struct Reply {
  long status = 0;
  std::string body, error;  // error: of the network
};

std::string Host(const std::string& url) {
  CURLU* parts = curl_url();
  char* host = nullptr;
  std::string result;
  if (parts && curl_url_set(parts, CURLUPART_URL, url.c_str(), 0) == CURLUE_OK &&
      curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
    result = host;
    curl_free(host);
  }
  curl_url_cleanup(parts);
  return result;
}

Reply Post(const EndpointOptions& options, const std::string& url, const std::string& content) {
  Reply reply;
  CURL* curl = curl_easy_init();
  if (!curl) return {0, {}, "libcurl does not start"};
  Body body;
  curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
  if (!options.key.empty()) {
    headers = curl_slist_append(headers, ("Authorization: Bearer " + options.key).c_str());
  }
  char why[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, content.data());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(content.size()));
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 20L);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, static_cast<long>(options.timeout_seconds));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, Receive);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
  const CURLcode code = curl_easy_perform(curl);
  if (code == CURLE_OK) {
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply.status);
    reply.body = std::move(body.text);
  } else if (body.full) {
    reply.error = "the answer is over 32 MB";
  } else {
    reply.error = *why ? why : curl_easy_strerror(code);
  }
  curl_slist_free_all(headers);
  curl_easy_cleanup(curl);
  return reply;
}

int64_t Count(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number_integer() ? it->get<int64_t>() : 0;
}

std::string Text(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

std::string ServerMessage(const std::string& body) {
  const json answer = json::parse(body, nullptr, false);
  if (answer.is_object() && answer.contains("error")) {
    const json& error = answer["error"];
    if (error.is_string()) return error.get<std::string>();
    if (error.is_object()) return Text(error, "message");
  }
  return body.substr(0, 200);
}

Completion Parse(const std::string& body) {
  Completion completion;
  const json answer = json::parse(body, nullptr, false);
  const auto choices = answer.is_object() ? answer.find("choices") : answer.end();
  if (!answer.is_object() || choices == answer.end() || !choices->is_array() || choices->empty() ||
      !choices->front().is_object()) {
    completion.error = "the endpoint's answer has no choices: " + body.substr(0, 200);
    return completion;
  }
  const json& choice = choices->front();
  const auto message = choice.find("message");
  if (message == choice.end() || !message->is_object()) {
    completion.error = "the endpoint's answer has no message";
    return completion;
  }
  // Thoughts that the server split off are put back, so that graders see one form.
  const std::string thought = Text(*message, "reasoning_content");
  if (!thought.empty()) completion.text = "<think>" + thought + "</think>";
  completion.text += Text(*message, "content");
  completion.finish = Text(choice, "finish_reason");
  if (const auto usage = answer.find("usage"); usage != answer.end() && usage->is_object()) {
    completion.prompt_tokens = Count(*usage, "prompt_tokens");
    completion.tokens = Count(*usage, "completion_tokens");
  }
  return completion;
}

class EndpointBackend : public Backend {
 public:
  explicit EndpointBackend(EndpointOptions options) : options_(std::move(options)) {
    while (options_.url.ends_with('/')) options_.url.pop_back();
  }
  std::string name() const override { return options_.model; }
  bool can_score() const override { return false; }
  Result<std::vector<Score>> ScoreTexts(std::span<const Scored>) override {
    return Error{Code::kUnsupported,
                 "bits per byte need log-probabilities of a given text, which chat endpoints do "
                 "not give: run the model itself with --model"};
  }

  Status Generate(std::span<const Prompt> prompts, const Budget& budget,
                  const Done& done) override {
    std::atomic<size_t> next{0};
    std::mutex mutex;
    bool stopped = false;
    const auto work = [&] {
      for (size_t i; (i = next.fetch_add(1)) < prompts.size();) {
        Completion completion = Ask(prompts[i], budget);
        const std::scoped_lock lock(mutex);
        if (!stopped && !done(i, std::move(completion))) stopped = true;
        if (stopped) next = prompts.size();
      }
    };
    std::vector<std::thread> threads;
    const size_t wanted = std::min(static_cast<size_t>(options_.concurrency), prompts.size());
    for (size_t t = 1; t < wanted; ++t) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
    if (stopped) return Error{Code::kCancelled, "interrupted"};
    return {};
  }

 private:
  Completion Ask(const Prompt& prompt, const Budget& budget) {
    const json messages = prompt.messages.empty()
                              ? json::array({{{"role", "user"}, {"content", prompt.text}}})
                              : json::parse(prompt.messages, nullptr, false);
    const json request = {{"model", options_.model},
                          {"messages", messages},
                          {"max_tokens", budget.max_tokens},
                          {"temperature", budget.temperature},
                          {"top_p", budget.top_p},
                          {"seed", prompt.seed >> 1},  // fits a signed number
                          {"stream", false}};
    const std::string content = request.dump(-1, ' ', false, json::error_handler_t::replace);
    Completion failed;
    failed.finish = "error";
    for (int attempt = 0; attempt < options_.attempts; ++attempt) {
      if (attempt > 0) Wait(attempt);
      const Reply reply = Post(options_, options_.url + "/chat/completions", content);
      if (reply.status == 200) {
        Completion completion = Parse(reply.body);
        completion.prompt_hash = Sha256Hex(content);
        return completion;
      }
      failed.error = reply.error.empty()
                         ? "HTTP " + std::to_string(reply.status) + ": " + ServerMessage(reply.body)
                         : reply.error;
      const bool again = !reply.error.empty() || reply.status == 429 || reply.status >= 500;
      if (!again) break;
    }
    return failed;
  }

  // Half a second, then one, two, ...: a busy server asks for patience.
  static void Wait(int attempt) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable().wait_for(lock, std::chrono::milliseconds(250) * (1 << attempt));
  }

  EndpointOptions options_;
};

}  // namespace

Result<std::unique_ptr<Backend>> OpenEndpointBackend(const EndpointOptions& options) {
  const bool https = options.url.starts_with("https://");
  if (!https && !options.url.starts_with("http://")) {
    return Error{Code::kInvalid, "endpoint \"" + options.url + "\": http:// or https:// is wanted"};
  }
  const std::string host = Host(options.url);
  if (host.empty()) return Error{Code::kInvalid, "endpoint \"" + options.url + "\" is no address"};
  const bool local = host == "localhost" || host == "127.0.0.1" || host == "[::1]";
  if (!options.key.empty() && !https && !local) {
    return Error{Code::kInvalid, "endpoint \"" + options.url +
                                     "\": a key is never sent over plain HTTP to another machine"};
  }
  const bool clean = std::none_of(options.key.begin(), options.key.end(),
                                  [](char c) { return static_cast<unsigned char>(c) < 32; });
  if (!clean) return Error{Code::kInvalid, "the endpoint's key holds a line break"};
  if (options.model.empty()) return Error{Code::kInvalid, "endpoint: which model?"};
  if (options.concurrency < 1 || options.concurrency > kMostConcurrency || options.attempts < 1) {
    return Error{Code::kInvalid, "endpoint: concurrency from 1 to 256, attempts from 1"};
  }
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) return Error{Code::kNetwork, "libcurl does not start"};
  return std::unique_ptr<Backend>(std::make_unique<EndpointBackend>(options));
}

}  // namespace hadal::eval
