// nori tail: the last records, and those to come.

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <string>

#include "tests/cli/tool.h"

namespace nori::cli_tests {
namespace {

using std::chrono::milliseconds;
using TailTest = ToolTest;

constexpr milliseconds kNothingComes{150};

TEST_F(TailTest, PrintsTheLastTen) {
  append(numbered_lines(0, 25));
  EXPECT_EQ(run({"tail", log(), "--format", "tsv"}).out, numbered_lines(15, 25));
  const auto last = lines_of(run({"tail", log()}).out);
  ASSERT_EQ(last.size(), 10U);
  EXPECT_EQ(nlohmann::json::parse(last.front())["sequence"], 15);
}

TEST_F(TailTest, PrintsAsManyAsAreAskedForOrThere) {
  append(numbered_lines(0, 25));
  EXPECT_EQ(run({"tail", log(), "-n", "1", "--format", "tsv"}).out, numbered_lines(24, 25));
  EXPECT_EQ(run({"tail", log(), "-n0", "--format", "tsv"}).out, "");
  EXPECT_EQ(run({"tail", log(), "-n", "100", "--format", "tsv"}).out, numbered_lines(0, 25));
}

TEST_F(TailTest, PrintsPartsOfABatch) {
  append(numbered_lines(0, 10), {"--batch", "10"});
  EXPECT_EQ(run({"tail", log(), "-n", "3", "--format", "tsv"}).out, numbered_lines(7, 10));
}

TEST_F(TailTest, AnEmptyLogHasNoTail) {
  append("");
  EXPECT_TRUE(went_well(run({"tail", log()})));
  EXPECT_EQ(run({"tail", log()}).out, "");
}

TEST_F(TailTest, WhatWasDeletedIsNotInTheTail) {
  std::string lines;
  for (int number = 0; number < 200; ++number) {
    lines += std::to_string(number) + "\t" + std::string(1000, '.') + "\n";
  }
  append(lines, {"--segment-bytes", "64K"});
  ASSERT_EQ(run({"gc", log(), "--before", "seq:199"}).exit_code, 0);
  const auto finished = run({"tail", log(), "-n", "200"});
  EXPECT_TRUE(went_well(finished));
  const auto left = lines_of(finished.out);
  ASSERT_FALSE(left.empty());
  EXPECT_LT(left.size(), 200U);
  EXPECT_EQ(nlohmann::json::parse(left.back())["key"], "199");
}

TEST_F(TailTest, FollowsALiveWriter) {
  RunningTool writer({"append", log(), "--ack", "appended", "--fsync", "os"});
  ASSERT_TRUE(writer.write(numbered_lines(0, 1)));
  ASSERT_TRUE(writer.read_line());
  RunningTool tail({"tail", log(), "-f", "-n", "1", "--format", "tsv"});
  EXPECT_EQ(tail.read_line(), "key-0\tvalue-0");
  for (std::uint64_t number = 1; number < 6; ++number) {
    EXPECT_FALSE(number == 1 && tail.read_line(kNothingComes));
    ASSERT_TRUE(writer.write(numbered_lines(number, number + 1)));
    EXPECT_EQ(tail.read_line(), lines_of(numbered_lines(number, number + 1)).front());
  }
  EXPECT_TRUE(went_well(writer.wait()));
  tail.kill(SIGINT);
  EXPECT_TRUE(ended_quietly_by(tail.wait(), SIGINT));
}

TEST_F(TailTest, FollowsTheNextWriterOverItsSegments) {
  append(numbered_lines(0, 3));
  RunningTool tail({"tail", log(), "-f", "-n", "0"});
  EXPECT_FALSE(tail.read_line(kNothingComes));
  std::string lines;
  for (int number = 0; number < 200; ++number) {
    lines += std::to_string(number) + "\t" + std::string(1000, '.') + "\n";
  }
  append(lines, {"--segment-bytes", "64K"});
  for (std::uint64_t sequence = 3; sequence < 203; ++sequence) {
    const auto line = tail.read_line();
    ASSERT_TRUE(line) << sequence;
    EXPECT_EQ(nlohmann::json::parse(*line)["sequence"], sequence);
  }
}

TEST_F(TailTest, EndsQuietlyWhenNobodyReadsItAnyMore) {
  append(numbered_lines(0, 3));
  RunningTool tail({"tail", log(), "-f"});
  ASSERT_TRUE(tail.read_line());
  tail.close_output();
  EXPECT_TRUE(ended_quietly_by(tail.wait(), SIGPIPE));
}

}  // namespace
}  // namespace nori::cli_tests
