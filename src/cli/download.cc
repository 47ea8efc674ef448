#include "cli/download.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/file.h"
#include "base/hash.h"
#include "cli/store.h"

namespace hadal::cli {
namespace {

constexpr int kMaxRedirects = 10;
constexpr uint64_t kMaxHeaderBytes = 256 << 10;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

struct Url {
  std::string scheme, host, port, origin;
  bool loopback = false;
};

Result<Url> ParseUrl(const std::string& text) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> handle(curl_url(), curl_url_cleanup);
  const auto part = [&](CURLUPart which, unsigned flags = 0) {
    char* value = nullptr;
    if (curl_url_get(handle.get(), which, &value, flags) != CURLUE_OK || !value)
      return std::string();
    std::string copy = value;
    curl_free(value);
    return copy;
  };
  if (curl_url_set(handle.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK) {
    return Error{Code::kInvalid, fmt::format("{} is no valid URL", Quoted(text))};
  }
  Url url;
  url.scheme = Lower(part(CURLUPART_SCHEME));
  url.host = Lower(part(CURLUPART_HOST));
  url.port = part(CURLUPART_PORT, CURLU_DEFAULT_PORT);
  url.origin = fmt::format("{}://{}:{}", url.scheme, url.host, url.port);
  url.loopback = url.host == "127.0.0.1" || url.host == "[::1]" || url.host == "localhost";
  if (url.scheme != "https" && !(url.scheme == "http" && url.loopback)) {
    return Error{Code::kUnsupported, fmt::format("{}: scheme '{}' is refused: only https (and http "
                                                 "on this machine)",
                                                 Quoted(text), url.scheme)};
  }
  if (!part(CURLUPART_USER).empty() || !part(CURLUPART_PASSWORD).empty()) {
    return Error{Code::kUnsupported, fmt::format("the URL of {} holds a user name or password: "
                                                 "refused; the hub's token goes into HF_TOKEN",
                                                 url.host)};
  }
  return url;
}

// What one HTTP response said.
struct Response {
  long status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string location;                        // absolute
  std::string Get(const std::string& name) const {
    const auto it = headers.find(name);
    return it == headers.end() ? "" : it->second;
  }
};

// Receives the body of a 200 or 206. begin: once, after the headers, before the first byte.
struct BodySink {
  std::function<Status(const Response&)> begin;
  std::function<Status(const char*, size_t)> write;
  std::function<bool()> keep_going;  // polled; false cancels
};

struct Exchange {
  Response response;
  BodySink* sink = nullptr;
  CURL* curl = nullptr;
  bool begun = false;
  uint64_t header_bytes = 0;
  std::optional<Error> error;
  curl_off_t received = 0;
  std::chrono::milliseconds stall{};
  std::chrono::steady_clock::time_point last_byte = std::chrono::steady_clock::now();

  static size_t OnHeader(char* data, size_t, size_t size, void* self) {
    auto& x = *static_cast<Exchange*>(self);
    if ((x.header_bytes += size) > kMaxHeaderBytes) return 0;
    std::string_view line(data, size);
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
    if (line.starts_with("HTTP/")) {  // a new response: an interim 1xx came before
      x.response.headers.clear();
      return size;
    }
    const size_t colon = line.find(':');
    if (colon != line.npos) {
      const size_t value = line.find_first_not_of(" \t", colon + 1);
      x.response.headers[Lower(std::string(line.substr(0, colon)))] =
          value == line.npos ? "" : std::string(line.substr(value));
    }
    return size;
  }

  bool Begin() {
    if (begun) return true;
    begun = true;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &response.status);
    if (response.status != 200 && response.status != 206) return true;
    const Status status = sink->begin(response);
    if (!status.ok()) error = status.error();
    return status.ok();
  }

  static size_t OnBody(char* data, size_t, size_t size, void* self) {
    auto& x = *static_cast<Exchange*>(self);
    if (!x.Begin()) return CURL_WRITEFUNC_ERROR;
    if (x.response.status != 200 && x.response.status != 206) return size;  // an error page
    const Status status = x.sink->write(data, size);
    if (status.ok()) return size;
    x.error = status.error();
    return CURL_WRITEFUNC_ERROR;
  }

  static int OnProgress(void* self, curl_off_t, curl_off_t received, curl_off_t, curl_off_t) {
    auto& x = *static_cast<Exchange*>(self);
    const auto now = std::chrono::steady_clock::now();
    if (received != x.received) {
      x.received = received;
      x.last_byte = now;
    }
    if (now - x.last_byte > x.stall) {
      x.error = Error{Code::kNetwork, "no byte came for too long"};
      return 1;
    }
    return x.sink->keep_going && !x.sink->keep_going() ? 1 : 0;
  }
};

struct SlistDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using Headers = std::unique_ptr<curl_slist, SlistDeleter>;

void AddHeader(Headers& headers, const std::string& line) {
  headers.reset(curl_slist_append(headers.release(), line.c_str()));
}

void SetLimits(CURL* curl, const Url& url, const DownloadOptions& options) {
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, url.loopback ? "http,https" : "https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, options.connect_seconds);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 64L);
  curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "hadal/0.1");
  if (url.loopback) curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
  for (const char* name : {"SSL_CERT_FILE", "CURL_CA_BUNDLE"}) {
    if (const std::string file = Environment(name); !file.empty()) {
      curl_easy_setopt(curl, CURLOPT_CAINFO, file.c_str());
    }
  }
}

// One request, no redirect followed. kNetwork: worth another attempt.
Result<Response> Get(const std::string& address, const Url& url, const Headers& headers,
                     BodySink& sink, const DownloadOptions& options) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(),
                                                                 curl_easy_cleanup);
  if (started != CURLE_OK || !curl) return Error{Code::kMemory, "libcurl cannot start"};
  char message[CURL_ERROR_SIZE] = "";
  Exchange exchange;
  exchange.sink = &sink;
  exchange.curl = curl.get();
  exchange.stall = options.stall;
  SetLimits(curl.get(), url, options);
  curl_easy_setopt(curl.get(), CURLOPT_URL, address.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, message);
  curl_easy_setopt(curl.get(), CURLOPT_HEADERFUNCTION, Exchange::OnHeader);
  curl_easy_setopt(curl.get(), CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, Exchange::OnBody);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &exchange);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFOFUNCTION, Exchange::OnProgress);
  curl_easy_setopt(curl.get(), CURLOPT_XFERINFODATA, &exchange);
  curl_easy_setopt(curl.get(), CURLOPT_NOPROGRESS, 0L);
  const CURLcode code = curl_easy_perform(curl.get());
  if (exchange.error) return *exchange.error;
  if (code == CURLE_ABORTED_BY_CALLBACK) return Error{Code::kCancelled, "interrupted"};
  if (code != CURLE_OK) {
    const char* why = message[0] ? message : curl_easy_strerror(code);
    // A wrong certificate will be as wrong next time.
    const bool final = code == CURLE_PEER_FAILED_VERIFICATION;
    return Error{final ? Code::kUnsupported : Code::kNetwork, fmt::format("{}: {}", url.host, why)};
  }
  if (!exchange.Begin()) return *exchange.error;  // an empty body
  char* location = nullptr;
  curl_easy_getinfo(curl.get(), CURLINFO_REDIRECT_URL, &location);
  if (location) exchange.response.location = location;
  return exchange.response;
}

Error StatusError(const Url& url, long status) {
  const std::string what = fmt::format("{} answered HTTP {}", url.host, status);
  switch (status) {
    case 401:
    case 403:
      return {Code::kNotFound, what +
                                   ": not allowed; a private or gated model needs HF_TOKEN and "
                                   "the licence accepted on the hub"};
    case 404:
    case 410:
      return {Code::kNotFound, what + ": no such file or model; check the name"};
    case 408:
    case 425:
    case 429:
      return {Code::kNetwork, what + ": too many requests"};
    default:
      return {status >= 500 ? Code::kNetwork : Code::kInvalid, what};
  }
}

std::string Mirrored(const std::string& url, const DownloadOptions& options) {
  const std::string_view scheme = "https://";
  if (options.mirror.empty() || !url.starts_with(scheme)) return url;
  return options.mirror + (options.mirror.back() == '/' ? "" : "/") + url.substr(scheme.size());
}

struct Followed {
  Response last, first;  // `first` carries the hub's X-Linked headers
};

// Requests `address` and follows redirects by our rules.
Result<Followed> Follow(std::string address, const std::vector<std::string>& lines, BodySink& sink,
                        const DownloadOptions& options) {
  Followed result;
  address = Mirrored(address, options);
  Url url = TRY(ParseUrl(address));
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    Headers headers;
    AddHeader(headers, "Accept-Encoding: identity");
    for (const auto& line : lines) AddHeader(headers, line);
    if (!options.token.empty() && url.origin == options.token_origin) {
      AddHeader(headers, "Authorization: Bearer " + options.token);
    }
    result.last = TRY(Get(address, url, headers, sink, options));
    if (hop == 0) result.first = result.last;
    const long status = result.last.status;
    if (status == 200 || status == 206 || status == 416) return result;
    if (status < 300 || status >= 400 || result.last.location.empty()) {
      return StatusError(url, status);
    }
    const Url next = TRY(ParseUrl(result.last.location));
    if (next.scheme != url.scheme) {
      return Error{Code::kUnsupported, fmt::format("{} redirects from {} to {} ({}): refused",
                                                   url.host, url.scheme, next.scheme, next.host)};
    }
    if (next.loopback && !url.loopback) {
      return Error{Code::kUnsupported,
                   fmt::format("{} redirects to this machine ({}): refused", url.host, next.host)};
    }
    address = result.last.location;
    url = next;
  }
  return Error{Code::kLimit,
               fmt::format("more than {} redirects, last to {}", kMaxRedirects, url.host)};
}

std::optional<uint64_t> ToUint(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return {};
  return value;
}

struct ContentRange {
  uint64_t first, last;
  std::optional<uint64_t> total;
};
std::optional<ContentRange> ParseContentRange(std::string_view text) {  // bytes 10-99/100
  if (!text.starts_with("bytes ")) return {};
  text.remove_prefix(6);
  const size_t dash = text.find('-'), slash = text.find('/');
  if (dash == text.npos || slash == text.npos || dash > slash) return {};
  const auto first = ToUint(text.substr(0, dash));
  const auto last = ToUint(text.substr(dash + 1, slash - dash - 1));
  if (!first || !last || *last < *first) return {};
  return ContentRange{*first, *last, ToUint(text.substr(slash + 1))};
}

// The part file and what is known of the whole: survives between attempts and between runs.
class Part {
 public:
  static Result<std::unique_ptr<Part>> Open(const DownloadRequest& request);
  ~Part() { close(fd_); }
  Status Restart();  // forget all bytes
  Status Append(const char* data, size_t size);
  Status SaveState() const;
  Status Finish(const std::string& final_path);
  void Discard();

  uint64_t have = 0;
  std::optional<uint64_t> total;
  std::string etag;  // strong validators only
  int restarts = 0;

 private:
  Part(std::string path, std::string url, int fd)
      : path_(std::move(path)), url_(std::move(url)), fd_(fd) {}
  void LoadState();
  std::string path_, url_;
  int fd_;
};

Error PathError(const std::string& path, const char* what) {
  return {Code::kIo, fmt::format("{}: {}: {}", path, what, strerror(errno))};
}

Result<std::unique_ptr<Part>> Part::Open(const DownloadRequest& request) {
  const std::string path = request.path + ".part";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) return PathError(path, "cannot create");
  std::unique_ptr<Part> part(new Part(path, request.url, fd));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return Error{Code::kIo, path + ": another hadal is downloading this file: wait for it"};
  }
  struct stat info {};
  if (fstat(fd, &info) != 0) return PathError(path, "cannot read");
  part->have = static_cast<uint64_t>(info.st_size);
  part->LoadState();
  // Without a validator only a known hash can tell whether the rest belongs to the beginning.
  if (part->have > 0 && part->etag.empty() && request.sha256.empty()) TRY(part->Restart());
  return part;
}

void Part::LoadState() {
  const auto text = ReadFile(path_ + ".json", 1 << 20);
  if (!text.ok()) return;
  const auto j = nlohmann::json::parse(*text, nullptr, false);
  if (!j.is_object() || j.value("url", nlohmann::json()) != url_) return;
  if (j.contains("etag") && j["etag"].is_string()) etag = j["etag"];
  if (j.contains("total") && j["total"].is_number_unsigned()) total = j["total"];
}

Status Part::SaveState() const {
  nlohmann::json j = {{"url", url_}, {"etag", etag}};
  if (total) j["total"] = *total;
  return WriteFileAtomic(path_ + ".json",
                         j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

Status Part::Restart() {
  ++restarts;
  have = 0;
  total.reset();
  etag.clear();
  if (ftruncate(fd_, 0) != 0) return PathError(path_, "cannot truncate");
  return {};
}

Status Part::Append(const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = pwrite(fd_, data, size, static_cast<off_t>(have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return PathError(path_, "cannot write");
    data += n;
    size -= static_cast<size_t>(n);
    have += static_cast<uint64_t>(n);
  }
  return {};
}

Status Part::Finish(const std::string& final_path) {
  if (fsync(fd_) != 0) return PathError(path_, "cannot sync");
  if (rename(path_.c_str(), final_path.c_str()) != 0) return PathError(final_path, "cannot rename");
  unlink((path_ + ".json").c_str());
  return {};
}

void Part::Discard() {
  unlink(path_.c_str());
  unlink((path_ + ".json").c_str());
}

// One file's download over several attempts.
class Transfer {
 public:
  Transfer(const DownloadRequest& request, const DownloadOptions& options, Part& part)
      : request_(request), options_(options), part_(part) {}

  // kNetwork: try again (the part may have grown); anything else is final.
  Status Attempt();
  const std::string& linked_sha256() const { return linked_sha256_; }

 private:
  Status Begin(const Response& response);
  Status Write(const char* data, size_t size);
  Status Complete() const;
  std::optional<uint64_t> Expected() const { return request_.size ? request_.size : part_.total; }

  const DownloadRequest& request_;
  const DownloadOptions& options_;
  Part& part_;
  std::string linked_sha256_;
};

Status Transfer::Attempt() {
  std::vector<std::string> lines;
  if (part_.have > 0) {
    if (Expected() && part_.have == *Expected()) return {};
    if (Expected() && part_.have > *Expected()) TRY(part_.Restart());
  }
  if (part_.have > 0) {
    lines.push_back(fmt::format("Range: bytes={}-", part_.have));
    if (!part_.etag.empty()) lines.push_back("If-Range: " + part_.etag);
  }
  BodySink sink;
  sink.begin = [&](const Response& r) { return Begin(r); };
  sink.write = [&](const char* data, size_t size) { return Write(data, size); };
  sink.keep_going = [&] {
    return !options_.progress || options_.progress(part_.have, Expected().value_or(0));
  };
  const Followed followed = TRY(Follow(request_.url, lines, sink, options_));
  std::string linked = followed.first.Get("x-linked-etag");
  linked.erase(std::remove(linked.begin(), linked.end(), '"'), linked.end());
  if (linked.size() == 64) linked_sha256_ = Lower(linked);
  const auto linked_size = ToUint(followed.first.Get("x-linked-size"));
  if (linked_size && request_.size && *linked_size != *request_.size) {
    return Error{Code::kCorrupt, fmt::format("the hub says {} bytes here and {} in its list",
                                             *linked_size, *request_.size)};
  }
  if (followed.last.status == 416) {
    TRY(part_.Restart());
    return Error{Code::kNetwork, "the server does not know the range: starting over"};
  }
  return Complete();
}

Status Transfer::Begin(const Response& response) {
  const std::string stated = response.Get("etag");
  const std::string etag = stated.starts_with("W/") ? "" : stated;
  std::optional<uint64_t> total;
  if (response.status == 206) {
    const auto range = ParseContentRange(response.Get("content-range"));
    const bool same = etag.empty() || part_.etag.empty() || etag == part_.etag;
    if (!range || range->first != part_.have || !same) {
      TRY(part_.Restart());
      TRY(part_.SaveState());
      return Error{Code::kNetwork, same ? "the server sent another range than asked: starting over"
                                        : "the file changed on the server: starting over"};
    }
    total = range->total;
    if (!total) total = range->last + 1;
  } else {
    if (part_.have > 0) TRY(part_.Restart());  // the range was ignored, or the file changed
    total = ToUint(response.Get("content-length"));
  }
  if (total && request_.size && *total != *request_.size) {
    return Error{Code::kCorrupt, fmt::format("the server says {} bytes, {} were announced", *total,
                                             *request_.size)};
  }
  if (part_.have > 0 && part_.total && total && *total != *part_.total) {
    TRY(part_.Restart());
    return Error{Code::kNetwork, "the file changed its size on the server: starting over"};
  }
  if (total) part_.total = total;
  part_.etag = etag;
  if (Expected())
    TRY(CheckDiskSpace(request_.path, *Expected() - std::min(*Expected(), part_.have)));
  return part_.SaveState();
}

Status Transfer::Write(const char* data, size_t size) {
  const auto expected = Expected();
  if (expected && size > *expected - part_.have) {
    TRY(part_.Restart());
    return Error{Code::kCorrupt,
                 fmt::format("the server sends more than the {} bytes announced", *expected)};
  }
  return part_.Append(data, size);
}

Status Transfer::Complete() const {
  if (Expected() && part_.have < *Expected()) {
    return Error{Code::kNetwork, fmt::format("cut off at {} of {} bytes", part_.have, *Expected())};
  }
  return {};
}

bool SleepFor(std::chrono::milliseconds time, const DownloadOptions& options, uint64_t done) {
  const auto until = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < until) {
    if (options.progress && !options.progress(done, 0)) return false;
    std::this_thread::sleep_for(std::min(time, std::chrono::milliseconds(50)));
  }
  return true;
}

Error Where(const std::string& url, const Error& error) {
  return {error.code, fmt::format("{}: {}", url, error.message)};
}

Status CheckSha256(const std::string& found, const std::string& wanted, const char* who) {
  if (wanted.empty() || found == wanted) return {};
  return Error{Code::kCorrupt, fmt::format("SHA-256 is {}, {} says {}: the file is damaged or not "
                                           "the one meant; it was thrown away",
                                           found, who, wanted)};
}

}  // namespace

std::string HubEndpoint() {
  std::string endpoint = Environment("HF_ENDPOINT");
  if (endpoint.empty()) endpoint = "https://huggingface.co";
  while (endpoint.ends_with('/')) endpoint.pop_back();
  return endpoint;
}

bool Offline() {
  for (const char* name : {"HADAL_OFFLINE", "HF_HUB_OFFLINE"}) {
    const std::string value = Environment(name);
    if (!value.empty() && value != "0") return true;
  }
  return false;
}

Result<std::string> UrlOrigin(const std::string& url) { return TRY(ParseUrl(url)).origin; }

Result<DownloadOptions> DownloadOptionsFromEnvironment() {
  DownloadOptions options;
  options.token = Environment("HF_TOKEN");
  if (options.token.find_first_of("\r\n \t") != std::string::npos) {
    return Error{Code::kInvalid, "HF_TOKEN holds white space: copy the token alone"};
  }
  options.token_origin = TRY(UrlOrigin(HubEndpoint()));
  options.mirror = Environment("HADAL_MIRROR");
  if (!options.mirror.empty()) TRY(ParseUrl(options.mirror));
  return options;
}

Result<Downloaded> Download(const DownloadRequest& request, const DownloadOptions& options) {
  if (Offline()) {
    return Error{Code::kNetwork, request.url + ": offline mode (HADAL_OFFLINE or HF_HUB_OFFLINE)"};
  }
  auto part = TRY(Part::Open(request));
  Transfer transfer(request, options, *part);
  auto wait = options.backoff;
  for (int failures = 0;;) {
    const uint64_t before = part->have;
    const Status status = transfer.Attempt();
    if (status.ok()) break;
    if (status.error().code != Code::kNetwork) return Where(request.url, status.error());
    if (part->have > before && part->restarts <= options.attempts) {
      failures = 0;
      wait = options.backoff;
    }
    if (++failures >= options.attempts) {
      return Error{Code::kNetwork, fmt::format("{}: {} (after {} attempts; what came is kept, pull "
                                               "again to resume)",
                                               request.url, status.error().message, failures)};
    }
    if (!SleepFor(wait, options, part->have))
      return Where(request.url, {Code::kCancelled, "interrupted"});
    wait = std::min(wait * 2, std::chrono::milliseconds(30'000));
  }
  Downloaded done{.size = part->have, .sha256 = {}, .etag = part->etag};
  done.sha256 = TRY(Sha256File(request.path + ".part"));
  Status right = CheckSha256(done.sha256, request.sha256, "the source");
  if (right.ok()) right = CheckSha256(done.sha256, transfer.linked_sha256(), "the hub");
  if (!right.ok()) {
    part->Discard();
    return Where(request.url, right.error());
  }
  TRY(part->Finish(request.path));
  return done;
}

Result<std::string> FetchText(const std::string& url, const DownloadOptions& options,
                              uint64_t max_bytes) {
  if (Offline()) {
    return Error{Code::kNetwork, url + ": offline mode (HADAL_OFFLINE or HF_HUB_OFFLINE)"};
  }
  auto wait = options.backoff;
  for (int attempt = 1;; ++attempt) {
    std::string text;
    BodySink sink;
    sink.begin = [](const Response&) -> Status { return {}; };
    sink.write = [&](const char* data, size_t size) -> Status {
      if (size > max_bytes - text.size()) {
        return Error{Code::kLimit, fmt::format("more than {} bytes", max_bytes)};
      }
      text.append(data, size);
      return {};
    };
    sink.keep_going = [&] { return !options.progress || options.progress(0, 0); };
    const auto followed = Follow(url, {}, sink, options);
    if (followed.ok() && followed->last.status == 200) return text;
    const Error error =
        followed.ok() ? Error{Code::kNetwork, "unexpected partial answer"} : followed.error();
    if (error.code != Code::kNetwork || attempt >= options.attempts) return Where(url, error);
    if (!SleepFor(wait, options, 0)) return Where(url, {Code::kCancelled, "interrupted"});
    wait = std::min(wait * 2, std::chrono::milliseconds(30'000));
  }
}

}  // namespace hadal::cli
