#include "cli/download.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "base/hash.h"
#include "cli/testing_http_server.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;

std::string Content(size_t size, char seed = 0) {
  std::string text(size, ' ');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 31 + i / 251 + size_t(seed));
  return text;
}

class DownloadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    unsetenv("HADAL_OFFLINE");
    unsetenv("HF_HUB_OFFLINE");
    folder_ = fs::temp_directory_path() / ("hadal_download_" + std::to_string(getpid()));
    fs::create_directories(folder_);
    options_.attempts = 4;
    options_.backoff = std::chrono::milliseconds(1);
    options_.stall = std::chrono::milliseconds(300);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Path() const { return (folder_ / "file.gguf").string(); }
  Result<Downloaded> Get(const std::string& url, std::optional<uint64_t> size = {},
                         const std::string& sha256 = "") {
    return Download({.url = url, .path = Path(), .size = size, .sha256 = sha256}, options_);
  }
  std::string Got() const { return *ReadFile(Path()); }
  bool NothingThere() const { return !fs::exists(Path()); }

  fs::path folder_;
  DownloadOptions options_;
};

TEST_F(DownloadTest, PlainFileArrivesWithItsHash) {
  const std::string content = Content(300'000);
  TestHttpServer server([&](const HttpRequest& r) { return ServeFile(r, content, "\"a\""); });
  const auto done = Get(server.Url("/f"), content.size(), Sha256Hex(content));
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(done->sha256, Sha256Hex(content));
  EXPECT_EQ(done->etag, "\"a\"");
  EXPECT_EQ(Got(), content);
  EXPECT_FALSE(fs::exists(Path() + ".part"));
  EXPECT_FALSE(fs::exists(Path() + ".part.json"));
}

TEST_F(DownloadTest, EmptyFile) {
  TestHttpServer server([&](const HttpRequest& r) { return ServeFile(r, "", "\"a\""); });
  const auto done = Get(server.Url("/f"));
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(Got(), "");
}

TEST_F(DownloadTest, TruncatedAnswerIsResumedWithIfRange) {
  const std::string content = Content(300'000);
  TestHttpServer server([&](const HttpRequest& r) {
    HttpAnswer answer = ServeFile(r, content, "\"a\"");
    if (r.number == 0) answer.body.resize(100'000);
    return answer;
  });
  const auto done = Get(server.Url("/f"));
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(Got(), content);
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[1].headers.at("range"), "bytes=100000-");
  EXPECT_EQ(requests[1].headers.at("if-range"), "\"a\"");
}

TEST_F(DownloadTest, StalledConnectionIsGivenUpAndResumed) {
  const std::string content = Content(50'000);
  TestHttpServer server([&](const HttpRequest& r) {
    HttpAnswer answer = ServeFile(r, content, "\"a\"");
    if (r.number == 0) {
      answer.body.resize(20'000);
      answer.hang = true;
    }
    return answer;
  });
  const auto done = Get(server.Url("/f"));
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(Got(), content);
  EXPECT_EQ(server.requests()[1].headers.at("range"), "bytes=20000-");
}

TEST_F(DownloadTest, ServerThatNeverAnswersEndsInAnError) {
  options_.attempts = 1;
  TestHttpServer server([&](const HttpRequest&) { return HttpAnswer{"", "", true}; });
  const auto done = Get(server.Url("/f"));
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, Code::kNetwork);
  EXPECT_TRUE(NothingThere());
}

TEST_F(DownloadTest, IgnoredRangeStartsOver) {
  const std::string content = Content(80'000);
  TestHttpServer server([&](const HttpRequest& r) {
    HttpRequest without = r;
    without.headers.erase("range");
    HttpAnswer answer = ServeFile(without, content, "\"a\"");
    if (r.number == 0) answer.body.resize(30'000);
    return answer;
  });
  const auto done = Get(server.Url("/f"));
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(Got(), content);
  EXPECT_EQ(server.requests()[1].headers.count("range"), 1u);
}

TEST_F(DownloadTest, FileChangedHalfWayAnsweredWith200StartsOver) {
  const std::string before = Content(80'000), after = Content(90'000, 7);
  TestHttpServer server([&](const HttpRequest& r) {
    HttpAnswer answer =
        r.number == 0 ? ServeFile(r, before, "\"a\"") : ServeFile(r, after, "\"b\"");
    if (r.number == 0) answer.body.resize(30'000);
    return answer;
  });
  const auto done = Get(server.Url("/f"));
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(Got(), after);
}

TEST_F(DownloadTest, FileChangedHalfWayAnsweredWith206StartsOver) {
  const std::string before = Content(80'000), after = Content(80'000, 7);
  TestHttpServer server([&](const HttpRequest& r) {
    HttpRequest request = r;
    request.headers.erase("if-range");  // a server that does not know If-Range
    HttpAnswer answer =
        r.number == 0 ? ServeFile(request, before, "\"a\"") : ServeFile(request, after, "\"b\"");
    if (r.number == 0) answer.body.resize(30'000);
    return answer;
  });
  const auto done = Get(server.Url("/f"));
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(Got(), after);
  EXPECT_EQ(server.requests().size(), 3u);
}

TEST_F(DownloadTest, WrongRangeIsNotSplicedIn) {
  const std::string content = Content(80'000);
  TestHttpServer server([&](const HttpRequest& r) {
    HttpAnswer answer = ServeFile(r, content, "\"a\"");
    if (r.number == 0) answer.body.resize(30'000);
    if (r.number == 1) {
      answer.head =
          "HTTP/1.1 206 Partial Content\r\nETag: \"a\"\r\nContent-Range: bytes 10-79999/80000\r\n"
          "Connection: close\r\n\r\n";
    }
    return answer;
  });
  const auto done = Get(server.Url("/f"));
  ASSERT_TRUE(done.ok()) << done.error().message;
  EXPECT_EQ(Got(), content);
}

TEST_F(DownloadTest, FileThatKeepsChangingEnds) {
  TestHttpServer server([&](const HttpRequest& r) {
    HttpRequest request = r;
    request.headers.erase("if-range");
    HttpAnswer answer = ServeFile(request, Content(80'000, static_cast<char>(r.number)),
                                  "\"" + std::to_string(r.number) + "\"");
    answer.body.resize(answer.body.size() / 2);
    return answer;
  });
  const auto done = Get(server.Url("/f"));
  ASSERT_FALSE(done.ok());
  EXPECT_LT(server.requests().size(), 40u);
  EXPECT_TRUE(NothingThere());
}

TEST_F(DownloadTest, InterruptedRunResumesInTheNext) {
  const std::string content = Content(80'000);
  options_.attempts = 1;
  TestHttpServer server([&](const HttpRequest& r) {
    HttpAnswer answer = ServeFile(r, content, "\"a\"");
    if (r.number == 0) answer.body.resize(30'000);
    return answer;
  });
  ASSERT_FALSE(Get(server.Url("/f")).ok());
  EXPECT_TRUE(NothingThere());
  EXPECT_EQ(fs::file_size(Path() + ".part"), 30'000u);
  ASSERT_TRUE(Get(server.Url("/f")).ok());
  EXPECT_EQ(Got(), content);
  EXPECT_EQ(server.requests()[1].headers.at("range"), "bytes=30000-");
}

TEST_F(DownloadTest, PartOfAnotherUrlIsNotContinued) {
  const std::string content = Content(80'000), other = Content(70'000, 3);
  options_.attempts = 1;
  TestHttpServer server([&](const HttpRequest& r) {
    HttpAnswer answer = ServeFile(r, r.path == "/one" ? content : other, "");
    if (r.path == "/one") answer.body.resize(30'000);
    return answer;
  });
  ASSERT_FALSE(Get(server.Url("/one")).ok());
  ASSERT_TRUE(Get(server.Url("/two")).ok());
  EXPECT_EQ(Got(), other);
  EXPECT_EQ(server.requests()[1].headers.count("range"), 0u);
}

TEST_F(DownloadTest, LyingSizeIsRefused) {
  const std::string content = Content(1000);
  TestHttpServer server([&](const HttpRequest& r) { return ServeFile(r, content, "\"a\""); });
  const auto done = Get(server.Url("/f"), 999);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, Code::kCorrupt);
  EXPECT_NE(done.error().message.find("1000 bytes, 999 were announced"), std::string::npos)
      << done.error().message;
  EXPECT_TRUE(NothingThere());
}

TEST_F(DownloadTest, EndlessBodyStopsAtTheAnnouncedSize) {
  TestHttpServer server([&](const HttpRequest&) {
    return HttpAnswer{"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", Content(500'000)};
  });
  const auto done = Get(server.Url("/f"), 1000);
  ASSERT_FALSE(done.ok());
  EXPECT_NE(done.error().message.find("more than the 1000 bytes"), std::string::npos);
  EXPECT_TRUE(NothingThere());
}

TEST_F(DownloadTest, WrongHashIsThrownAway) {
  TestHttpServer server([&](const HttpRequest& r) { return ServeFile(r, "evil", "\"a\""); });
  const auto done = Get(server.Url("/f"), {}, Sha256Hex("good"));
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, Code::kCorrupt);
  EXPECT_TRUE(NothingThere());
  EXPECT_FALSE(fs::exists(Path() + ".part"));
}

TEST_F(DownloadTest, HubsLinkedHashIsChecked) {
  TestHttpServer* self = nullptr;
  TestHttpServer server([&](const HttpRequest& r) {
    if (r.path == "/f") {
      return Redirect(self->Url("/cdn"), "X-Linked-Etag: \"" + Sha256Hex("good") + "\"\r\n");
    }
    return ServeFile(r, "evil", "\"a\"");
  });
  self = &server;
  const auto done = Get(server.Url("/f"));
  ASSERT_FALSE(done.ok());
  EXPECT_NE(done.error().message.find("the hub says"), std::string::npos) << done.error().message;
  EXPECT_TRUE(NothingThere());
}

TEST_F(DownloadTest, TokenStaysWithItsOrigin) {
  TestHttpServer other([&](const HttpRequest& r) { return ServeFile(r, "content", "\"a\""); });
  TestHttpServer* self = nullptr;
  TestHttpServer hub([&](const HttpRequest& r) {
    return r.path == "/f" ? Redirect(self->Url("/g")) : Redirect(other.Url("/cdn"));
  });
  self = &hub;
  options_.token = "hf_secret";
  options_.token_origin = *UrlOrigin(hub.Url("/"));
  const auto done = Get(hub.Url("/f"));
  ASSERT_TRUE(done.ok()) << done.error().message;
  ASSERT_EQ(hub.requests().size(), 2u);
  EXPECT_EQ(hub.requests()[0].headers.at("authorization"), "Bearer hf_secret");
  EXPECT_EQ(hub.requests()[1].headers.at("authorization"), "Bearer hf_secret");
  EXPECT_EQ(other.requests().at(0).headers.count("authorization"), 0u);
}

TEST_F(DownloadTest, RedirectToAnotherSchemeIsRefused) {
  for (const char* target : {"ftp://127.0.0.1/f", "file:///etc/passwd", "https://127.0.0.1:1/f",
                             "http://user:secret@127.0.0.1/f", "http://example.com/f"}) {
    TestHttpServer server([&](const HttpRequest&) { return Redirect(target); });
    const auto done = Get(server.Url("/f"));
    ASSERT_FALSE(done.ok()) << target;
    EXPECT_EQ(done.error().code, Code::kUnsupported) << target << ": " << done.error().message;
    EXPECT_EQ(done.error().message.find("secret"), std::string::npos);
    EXPECT_EQ(server.requests().size(), 1u);
  }
}

TEST_F(DownloadTest, RedirectLoopEnds) {
  TestHttpServer* self = nullptr;
  TestHttpServer server([&](const HttpRequest&) { return Redirect(self->Url("/f")); });
  self = &server;
  const auto done = Get(server.Url("/f"));
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, Code::kLimit);
  EXPECT_EQ(server.requests().size(), 11u);
}

TEST_F(DownloadTest, ServerErrorsAreRetriedAndMissingFilesAreNot) {
  const std::string head = "Content-Length: 0\r\nConnection: close\r\n\r\n";
  TestHttpServer busy([&](const HttpRequest& r) {
    if (r.number < 2) return HttpAnswer{"HTTP/1.1 503 Busy\r\n" + head, ""};
    return ServeFile(r, "content", "\"a\"");
  });
  EXPECT_TRUE(Get(busy.Url("/f")).ok());
  EXPECT_EQ(busy.requests().size(), 3u);
  TestHttpServer missing([&](const HttpRequest&) {
    return HttpAnswer{"HTTP/1.1 404 No\r\n" + head, ""};
  });
  const auto done = Get(missing.Url("/g"));
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code, Code::kNotFound);
  EXPECT_EQ(missing.requests().size(), 1u);
}

TEST_F(DownloadTest, PlainHttpAndOddSchemesAreRefused) {
  for (const char* url : {"http://example.com/f.gguf", "ftp://example.com/f", "file:///etc/passwd",
                          "https://user:secret@example.com/f"}) {
    const auto done = Get(url);
    ASSERT_FALSE(done.ok()) << url;
    EXPECT_EQ(done.error().code, Code::kUnsupported) << done.error().message;
  }
}

TEST_F(DownloadTest, OfflineModeFetchesNothing) {
  TestHttpServer server([&](const HttpRequest& r) { return ServeFile(r, "content", ""); });
  setenv("HADAL_OFFLINE", "1", 1);
  const auto file = Get(server.Url("/f"));
  const auto text = FetchText(server.Url("/f"), options_);
  unsetenv("HADAL_OFFLINE");
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.error().message.find("offline"), std::string::npos);
  EXPECT_FALSE(text.ok());
  EXPECT_TRUE(server.requests().empty());
}

TEST_F(DownloadTest, SizeBeyondTheDiskIsRefusedFirst) {
  TestHttpServer server([&](const HttpRequest&) {
    return HttpAnswer{
        "HTTP/1.1 200 OK\r\nContent-Length: 4000000000000000\r\nConnection: close\r\n\r\n", "x"};
  });
  const auto done = Get(server.Url("/f"));
  ASSERT_FALSE(done.ok());
  EXPECT_NE(done.error().message.find("free"), std::string::npos) << done.error().message;
}

TEST_F(DownloadTest, FetchTextIsBounded) {
  TestHttpServer server([&](const HttpRequest& r) { return ServeFile(r, Content(5000), ""); });
  EXPECT_EQ(*FetchText(server.Url("/f"), options_), Content(5000));
  const auto text = FetchText(server.Url("/f"), options_, 4999);
  ASSERT_FALSE(text.ok());
  EXPECT_EQ(text.error().code, Code::kLimit);
}

}  // namespace
}  // namespace hadal::cli
