// One file over HTTP(S), to the byte: resumed, checked, renamed into place when right.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hadal::cli {

struct DownloadOptions {
  // Sent as a bearer token to URLs of exactly this origin (scheme, host, port), to no other, on no
  // redirect that leaves it.
  std::string token, token_origin;
  int attempts = 6;                        // in a row without a new byte
  std::chrono::milliseconds backoff{500};  // doubles, at most 30 s
  long connect_seconds = 20;
  std::chrono::milliseconds stall{30'000};  // without a byte: given up and resumed
  std::string mirror;  // "https://mirror/": https://host/path is fetched as mirror + host/path
  std::function<bool(uint64_t done, uint64_t total)> progress;  // total 0: unknown; false: stop
};
// From the environment: HF_TOKEN, HADAL_MIRROR. token_origin is HubEndpoint()'s.
Result<DownloadOptions> DownloadOptionsFromEnvironment();
// HF_ENDPOINT, else https://huggingface.co; without a trailing slash.
std::string HubEndpoint();
// HADAL_OFFLINE or HF_HUB_OFFLINE is set to something other than 0.
bool Offline();

struct DownloadRequest {
  std::string url;
  std::string path;                   // final name; path + ".part" holds what is there so far
  std::optional<uint64_t> size = {};  // where known beforehand
  std::string sha256 = {};            // lower-case hex, or empty
};
struct Downloaded {
  uint64_t size = 0;
  std::string sha256, etag;
};

// https only; http for loopback addresses. Redirects are followed here, not by libcurl: never from
// https to http, never to another scheme, never with the token to another origin, at most 10. A
// part is resumed with Range and If-Range; a server that ignores the range, or whose file has
// changed since, makes the download start over. Sizes, the hub's X-Linked-Size and X-Linked-Etag
// (a SHA-256), and `sha256` must hold, or nothing appears at `path`.
Result<Downloaded> Download(const DownloadRequest& request, const DownloadOptions& options);

// A small document under the same rules.
Result<std::string> FetchText(const std::string& url, const DownloadOptions& options,
                              uint64_t max_bytes = 32 << 20);

// "https://host:port" of a URL; an error when it may not be fetched.
Result<std::string> UrlOrigin(const std::string& url);

}  // namespace hadal::cli
