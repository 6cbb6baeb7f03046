#include "cli/base64.h"

#include <gtest/gtest.h>

#include <string>

namespace nori::cli {
namespace {

std::string encoded(std::string_view bytes) {
  std::string text;
  append_base64(bytes, text);
  return text;
}

// The examples of RFC 4648.
TEST(Base64Test, EncodesLikeTheStandard) {
  EXPECT_EQ(encoded(""), "");
  EXPECT_EQ(encoded("f"), "Zg==");
  EXPECT_EQ(encoded(std::string_view("foo", 2)), "Zm8=");
  EXPECT_EQ(encoded("foo"), "Zm9v");
  EXPECT_EQ(encoded("foobar"), "Zm9vYmFy");
  EXPECT_EQ(encoded("\xfb\xff\xfe"), "+//+");
}

TEST(Base64Test, DecodesWhatItEncodes) {
  std::string bytes;
  for (int value = 0; value < 256; ++value) {
    bytes += static_cast<char>(value);
    std::string decoded;
    ASSERT_TRUE(decode_base64(encoded(bytes), decoded));
    EXPECT_EQ(decoded, bytes);
  }
}

TEST(Base64Test, RefusesWhatItWouldNotWrite) {
  for (const char* const text :
       {"Z", "Zg", "Zg=", "Zg===", "Z===", "====", "Zh==", "Zm9=", "Zm8=Zm8=", "Zm 9v", "Zm9v\n",
        "Zm-_", "Zm9v====", "\xc3\xa9==", "=Zm9"}) {
    std::string decoded;
    EXPECT_FALSE(decode_base64(text, decoded)) << text;
  }
}

}  // namespace
}  // namespace nori::cli
