#include "base/config_file.h"

#include <gtest/gtest.h>

#include <array>

namespace hadal {
namespace {

constexpr const char* kText = R"(name = "nano"
steps = "1.5K"
rate = 3e-4
on = true
list = ["a", "b"]
[model]
hidden_size = 64
[[stage]]
kind = "train"
[[stage]]
kind = "eval"
)";

ConfigTable Open(std::string_view text) {
  Result<ConfigTable> t = ConfigTable::Parse(text, "r.toml");
  EXPECT_TRUE(t.ok()) << (t.ok() ? "" : t.error().message);
  return std::move(t).value();
}

TEST(ConfigFile, ReadsEveryType) {
  ConfigTable t = Open(kText);
  EXPECT_EQ(t.Text("name").value(), "nano");
  EXPECT_EQ(t.Integer("steps", 1, 10000).value(), 1500);
  EXPECT_DOUBLE_EQ(t.Number("rate", 0, 1).value(), 3e-4);
  EXPECT_TRUE(t.Flag("on").value());
  EXPECT_EQ(t.Texts("list").value().size(), 2u);
  EXPECT_EQ(t.Integer("absent", 0, 9, 7).value(), 7);
  Result<std::optional<ConfigTable>> model = t.Table("model");
  ASSERT_TRUE(model.ok() && model->has_value());
  EXPECT_NE((*model)->ToJson().find("\"hidden_size\""), std::string::npos);
  EXPECT_TRUE((*model)->Finish().ok());
  EXPECT_EQ(t.Tables("stage").value().size(), 2u);
  EXPECT_TRUE(t.Finish().ok());
}

TEST(ConfigFile, OverlayGoesBeforeTheTableItIsIn) {
  constexpr const char* kStage =
      "steps = 100\nbatch = 8\n[schedule]\nrate = 1.0\nkind = \"x\"\n"
      "[smoke]\nsteps = 2\n[smoke.schedule]\nrate = 0.5\n";
  for (const bool use : {false, true}) {
    ConfigTable t = Open(kStage);
    ASSERT_TRUE(t.Overlay("smoke", use).ok());
    EXPECT_EQ(t.Integer("steps", 1, 1000).value(), use ? 2 : 100);
    EXPECT_EQ(t.Integer("batch", 1, 1000).value(), 8);
    std::optional<ConfigTable> schedule = t.Table("schedule").value();
    EXPECT_EQ(schedule->Number("rate", 0, 9).value(), use ? 0.5 : 1.0);
    EXPECT_EQ(schedule->Text("kind").value(), "x");
    EXPECT_TRUE(schedule->Finish().ok());
    EXPECT_TRUE(t.Finish().ok());
  }
  ConfigTable wrong = Open("steps = 1\n[smoke]\nstep = 2\n");
  ASSERT_TRUE(wrong.Overlay("smoke", true).ok());
  (void)wrong.Integer("steps", 0, 9);
  EXPECT_NE(wrong.Finish().error().message.find("did you mean \"steps\""), std::string::npos);
}

TEST(ConfigFile, InheritedKeysComeLastAndTheirOverlayBeforeWhatIsThere) {
  constexpr const char* kStages =
      "[[stage]]\nsteps = 100\n[stage.schedule]\nrate = 1.0\nkind = \"x\"\n"
      "[stage.smoke]\nsteps = 2\n"
      "[[stage]]\nsteps = 200\n[stage.schedule]\nrate = 3.0\n[stage.smoke.schedule]\nrate = 0.5\n";
  for (const bool use : {false, true}) {
    ConfigTable file = Open(kStages);
    std::vector<ConfigTable> stages = file.Tables("stage").value();
    ASSERT_TRUE(stages[0].Overlay("smoke", use).ok());
    stages[1].Inherit(stages[0]);
    ASSERT_TRUE(stages[1].Overlay("smoke", use).ok());
    EXPECT_EQ(stages[1].Integer("steps", 1, 1000).value(), use ? 2 : 200);
    std::optional<ConfigTable> schedule = stages[1].Table("schedule").value();
    EXPECT_EQ(schedule->Number("rate", 0, 9).value(), use ? 0.5 : 3.0);
    EXPECT_EQ(schedule->Text("kind").value(), "x");
    EXPECT_TRUE(schedule->Finish().ok());
    EXPECT_TRUE(stages[1].Finish().ok());
    EXPECT_EQ(stages[0].Integer("steps", 1, 1000).value(), use ? 2 : 100);
  }
}

TEST(ConfigFile, ErrorsNameFileLineKeyAndTheNearestValidOne) {
  const std::array<std::string_view, 2> kinds = {"train", "eval"};
  const auto message = [](const auto& result) {
    return result.ok() ? std::string("no error") : result.error().message;
  };
  ConfigTable t = Open("a = 1\nstpes = 5\n");
  (void)t.Integer("a", 0, 9);
  (void)t.Integer("steps", 0, 9, 1);
  EXPECT_EQ(message(t.Finish()), "r.toml:2: stpes: unknown key; did you mean \"steps\"?");
  EXPECT_EQ(message(t.Text("a")), "r.toml:1: a: is an integer, wants text in quotes");
  EXPECT_EQ(message(t.Integer("a", 3, 9)), "r.toml:1: a: 1 is not within 3 to 9");
  EXPECT_NE(message(t.Number("gone", 0, 1)).find("gone: missing"), std::string::npos);
  ConfigTable u = Open("kind = \"trian\"\nsize = \"12 parsecs\"\nhalf = 1.5\n");
  EXPECT_EQ(message(u.Choice("kind", kinds)),
            "r.toml:1: kind: \"trian\" is none of train, eval; did you mean \"train\"?");
  EXPECT_NE(message(u.Integer("size", 0, 9)).find("with a unit"), std::string::npos);
  EXPECT_NE(message(u.Integer("half", 0, 9)).find("not a whole number"), std::string::npos);
  EXPECT_NE(message(ConfigTable::Parse("a = \nb", "r.toml")).find("r.toml:1"), std::string::npos);
  EXPECT_FALSE(ConfigTable::Read("/nonexistent/x.toml").ok());
}

}  // namespace
}  // namespace hadal
