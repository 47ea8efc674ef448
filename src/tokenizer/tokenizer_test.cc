#include "tokenizer/tokenizer.h"

#include <gtest/gtest.h>

namespace hadal {
namespace {

TEST(Tokenizer, EmptyVocabularyIsAnError) {
  const auto made = Tokenizer::FromSpec({});
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message.find("empty"), std::string::npos);
}

}  // namespace
}  // namespace hadal
