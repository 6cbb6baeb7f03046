#include "cli/arguments.h"

#include <gtest/gtest.h>

#include <chrono>

namespace nori::cli {
namespace {

using std::chrono::milliseconds;

TEST(ArgumentsTest, SizesArePowersOf1024) {
  EXPECT_EQ(parse_bytes("0"), 0U);
  EXPECT_EQ(parse_bytes("65536"), 65536U);
  EXPECT_EQ(parse_bytes("64K"), 65536U);
  EXPECT_EQ(parse_bytes("64KiB"), 65536U);
  EXPECT_EQ(parse_bytes("3M"), 3U << 20);
  EXPECT_EQ(parse_bytes("1GiB"), 1U << 30);
}

TEST(ArgumentsTest, RefusesWhatIsNoSize) {
  for (const char* const text : {"", "K", "-1", "1.5M", "1 K", "1k", "1KB", "1T", "K1",
                                 "18446744073709551616", "18014398509481984K"}) {
    EXPECT_FALSE(parse_bytes(text)) << text;
  }
}

TEST(ArgumentsTest, ReadsDurations) {
  EXPECT_EQ(parse_duration("500ms"), milliseconds{500});
  EXPECT_EQ(parse_duration("30s"), milliseconds{30'000});
  EXPECT_EQ(parse_duration("15m"), std::chrono::minutes{15});
  EXPECT_EQ(parse_duration("12h"), std::chrono::hours{12});
  EXPECT_EQ(parse_duration("7d"), std::chrono::hours{168});
  for (const char* const text :
       {"", "7", "d", "0d", "-1d", "1.5h", "7 d", "7D", "7w", "106751991168d"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(ArgumentsTest, SegmentAndRingHaveLimits) {
  EXPECT_EQ(parse_segment_bytes("64K"), 64 * kKiB);
  EXPECT_EQ(parse_segment_bytes("4G"), 4 * kGiB);
  EXPECT_FALSE(parse_segment_bytes("65535"));
  EXPECT_FALSE(parse_segment_bytes("4294967297"));
  EXPECT_FALSE(parse_segment_bytes("none"));
  EXPECT_EQ(parse_ring_bytes("none"), WalOptions::kNoRing);
  EXPECT_EQ(parse_ring_bytes("1G"), kGiB);
  EXPECT_FALSE(parse_ring_bytes("0"));
  EXPECT_FALSE(parse_ring_bytes("2G"));
}

TEST(ArgumentsTest, ReadsPolicies) {
  EXPECT_EQ(parse_fsync_policy("always")->kind(), FsyncPolicy::Kind::always);
  EXPECT_EQ(parse_fsync_policy("os")->kind(), FsyncPolicy::Kind::os);
  EXPECT_EQ(parse_fsync_policy("batch")->kind(), FsyncPolicy::Kind::batch);
  EXPECT_EQ(parse_fsync_policy("batch")->window(), milliseconds(5));
  EXPECT_EQ(parse_fsync_policy("batch=250")->window(), milliseconds(250));
  for (const char* const text :
       {"", "never", "batch=", "batch=-1", "batch=5ms", "batch=60001", "always=1"}) {
    EXPECT_FALSE(parse_fsync_policy(text)) << text;
  }
}

TEST(ArgumentsTest, CountsHaveALowestValue) {
  EXPECT_EQ(parse_count("1", 1), 1U);
  EXPECT_EQ(parse_count("0", 0), 0U);
  for (const char* const text : {"", "0", "-1", "1x", "x"}) {
    EXPECT_FALSE(parse_count(text, 1)) << text;
  }
}

TEST(ArgumentsTest, AChoiceNamesTheOthers) {
  const auto parse = [](std::string_view text) {
    return parse_choice<int>(text, {{"one", 1}, {"two", 2}});
  };
  EXPECT_EQ(parse("two"), 2);
  EXPECT_EQ(parse("three").error(), "three is none of one, two");
}

}  // namespace
}  // namespace nori::cli
