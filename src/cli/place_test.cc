#include "cli/place.h"

#include <gtest/gtest.h>

#include <chrono>
#include <variant>

namespace nori::cli {
namespace {

using std::chrono::milliseconds;

// Milliseconds since 1970 of the time that `text` names.
std::int64_t time_ms(const std::string& text) {
  const auto place = parse_place("time:" + text);
  EXPECT_TRUE(place) << text;
  const auto time = std::get<TimePoint>(place.value_or(ReadFrom{TimePoint{}}));
  return std::chrono::floor<milliseconds>(time.time_since_epoch()).count();
}

TEST(PlaceTest, ReadsSegmentAndOffset) {
  const auto place = parse_place("3:4096");
  ASSERT_TRUE(place);
  EXPECT_EQ(std::get<FramePlace>(*place).segment_id, 3U);
  EXPECT_EQ(std::get<FramePlace>(*place).offset, 4096U);
}

TEST(PlaceTest, ReadsSequences) {
  EXPECT_EQ(std::get<Sequence>(parse_place("seq:0").value()), 0U);
  EXPECT_EQ(std::get<Sequence>(parse_exact_place("seq:18446744073709551615").value()),
            18446744073709551615U);
}

TEST(PlaceTest, ReadsDaysAndMoments) {
  EXPECT_EQ(time_ms("1970-01-01"), 0);
  EXPECT_EQ(time_ms("2026-01-01"), 1767225600000);
  EXPECT_EQ(time_ms("2026-01-01T00:00:00Z"), 1767225600000);
  EXPECT_EQ(time_ms("2026-01-01t00:00:01z"), 1767225601000);
  EXPECT_EQ(time_ms("2026-01-01 00:00:01Z"), 1767225601000);
  EXPECT_EQ(time_ms("2024-02-29T12:34:56Z"), 1709210096000);
}

TEST(PlaceTest, ReadsFractionsOfAnyLength) {
  EXPECT_EQ(time_ms("1970-01-01T00:00:01.5Z"), 1500);
  EXPECT_EQ(time_ms("1970-01-01T00:00:01.123456789012345Z"), 1123);
}

TEST(PlaceTest, ReadsOffsetsFromUtc) {
  EXPECT_EQ(time_ms("1970-01-01T02:00:00+01:30"), 1'800'000);
  EXPECT_EQ(time_ms("1970-01-01T00:00:00-00:30"), 1'800'000);
}

TEST(PlaceTest, RefusesWhatNamesNoPlace) {
  for (const char* const text :
       {"", ":", "3", "3:", ":4096", "3:-1", "-3:1", "+3:1", "3:4096x", "3: 4096", "seq:", "seq:-1",
        "seq:x", "seq:18446744073709551616", "begin", "0:1:2"}) {
    EXPECT_FALSE(parse_place(text)) << text;
    EXPECT_FALSE(parse_exact_place(text)) << text;
  }
  for (const char* const text : {"",
                                 "2026",
                                 "2026-1-1",
                                 "2026-13-01",
                                 "2026-02-30",
                                 "2025-02-29",
                                 "2026-01-01T",
                                 "2026-01-01T00:00Z",
                                 "2026-01-01T00:00:00",
                                 "2026-01-01T24:00:00Z",
                                 "2026-01-01T00:60:00Z",
                                 "2026-01-01T00:00:60Z",
                                 "2026-01-01T00:00:00.Z",
                                 "2026-01-01T00:00:00Zx",
                                 "2026-01-01T00:00:00+0100",
                                 "2026-01-01T00:00:00+24:00",
                                 "1969-12-31",
                                 "2262-01-01",
                                 "2026-01-01x",
                                 "2026-01-01Z"}) {
    EXPECT_FALSE(parse_place(std::string("time:") + text)) << text;
  }
}

TEST(PlaceTest, ATimeStandsForItself) {
  EXPECT_EQ(parse_time("1970-01-02T00:00:01Z"),
            TimePoint(std::chrono::hours(24) + std::chrono::seconds(1)));
  EXPECT_FALSE(parse_time("time:1970-01-02"));
  EXPECT_TRUE(parse_time("soon").error().contains("soon is no time; write 2026-01-31"));
}

TEST(PlaceTest, ATimeIsNoExactPlace) { EXPECT_FALSE(parse_exact_place("time:2026-01-01")); }

}  // namespace
}  // namespace nori::cli
