// nori dump: formats, places, live and killed writers, damage.

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/cli/tool.h"

namespace nori::cli_tests {
namespace {

using std::chrono::milliseconds;
using DumpTest = ToolTest;

// Three segments or more.
constexpr std::uint64_t kManyRecords = 300;
std::string many_lines() {
  std::string lines;
  for (std::uint64_t number = 0; number < kManyRecords; ++number) {
    lines += fmt::format("key-{}\tvalue-{}-{}\n", number, number, std::string(800, '.'));
  }
  return lines;
}
const Arguments kSmallSegments = {"--segment-bytes", "64K", "--ring-bytes", "64K"};

std::string iso(std::chrono::system_clock::time_point time) {
  const auto ms = std::chrono::floor<milliseconds>(time.time_since_epoch()).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                     fmt::gmtime(static_cast<std::time_t>(ms / 1000)), ms % 1000);
}

std::vector<std::uint64_t> sequences_of(const std::vector<nlohmann::json>& records) {
  std::vector<std::uint64_t> sequences;
  for (const auto& record : records) {
    sequences.push_back(record["sequence"].get<std::uint64_t>());
  }
  return sequences;
}

// --- formats

TEST_F(DumpTest, PrintsEveryFieldInOrder) {
  append("apple\tred\n");
  append("apple\n");
  const auto lines = lines_of(run({"dump", log()}).out);
  ASSERT_EQ(lines.size(), 2U);
  const auto first = nlohmann::ordered_json::parse(lines[0]);
  std::vector<std::string> names;
  for (const auto& [name, value] : first.items()) {
    names.push_back(name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"sequence", "position", "time_ms", "op", "key",
                                             "value", "ends_batch"}));
  EXPECT_EQ(first["sequence"], 0);
  EXPECT_TRUE(first["position"].get<std::string>().starts_with("0:"));
  EXPECT_GT(first["time_ms"].get<std::int64_t>(), 1577836800000);
  EXPECT_EQ(first["op"], "put");
  EXPECT_EQ(first["ends_batch"], true);
  EXPECT_EQ(nlohmann::json::parse(lines[1])["op"], "delete");
}

TEST_F(DumpTest, FeedsAppendInBothFormats) {
  append("a\\t\\n\\r\\\\\t\xff\n\xff\nb\t\n\t\ncaf\xc3\xa9\tnul\0\n");
  append(many_lines(), {"--batch", "7"});
  for (const char* const format : {"tsv", "jsonl"}) {
    const auto dumped = run({"dump", log(), "--format", format});
    ASSERT_TRUE(went_well(dumped));
    ASSERT_TRUE(went_well(run({"append", path(format), "--format", format}, dumped.out)));
    EXPECT_EQ(run({"dump", path(format), "--format", "tsv"}).out, dump_tsv()) << format;
  }
}

TEST_F(DumpTest, TsvSaysHowManyExpiriesItCouldNot) {
  append(R"({"op":"put","key":"a","value":"1","expires_at_ms":1767225600000})"
         "\n"
         R"({"op":"put","key":"b","value":"2"})"
         "\n",
         {"--format", "jsonl"});
  const auto finished = run({"dump", log(), "--format", "tsv"});
  EXPECT_TRUE(failed_with(finished, 0, "1 of these"));
  EXPECT_EQ(finished.out, "a\t1\nb\t2\n");
}

// --- places

TEST_F(DumpTest, BeginsAtASequence) {
  append(many_lines(), kSmallSegments);
  for (const std::uint64_t first : {0, 1, 77, 299}) {
    const auto records = dump_json({"--from", fmt::format("seq:{}", first)});
    ASSERT_EQ(records.size(), kManyRecords - first);
    EXPECT_EQ(records.front()["sequence"], first);
  }
  EXPECT_TRUE(dump_json({"--from", fmt::format("seq:{}", kManyRecords)}).empty());
}

TEST_F(DumpTest, BeginsAtAnyPlaceItHasPrinted) {
  append(many_lines(), kSmallSegments);
  const auto records = dump_json();
  ASSERT_EQ(records.size(), kManyRecords);
  for (std::size_t i = 0; i < records.size(); i += 37) {
    const auto from = dump_json({"--from", records[i]["position"], "--limit", "1"});
    ASSERT_EQ(from.size(), 1U);
    EXPECT_EQ(from[0], records[i]);
  }
}

TEST_F(DumpTest, ABatchsPlaceIsItsFirstRecord) {
  append(numbered_lines(0, 6), {"--batch", "3"});
  const auto records = dump_json();
  ASSERT_EQ(records.size(), 6U);
  EXPECT_EQ(sequences_of(dump_json({"--from", records[5]["position"]})),
            (std::vector<std::uint64_t>{3, 4, 5}));
}

TEST_F(DumpTest, APlaceWhereNoFrameBeginsIsNotThere) {
  append(numbered_lines(0, 3));
  const std::string place = dump_json()[1]["position"];
  const auto offset = std::stoull(place.substr(place.find(':') + 1));
  const std::string beside = fmt::format("0:{}", offset + 1);
  for (const std::string& from :
       {beside, std::string("0:0"), std::string("0:999999999"), std::string("77:4096")}) {
    EXPECT_TRUE(failed_with(run({"dump", log(), "--from", from}), 1, "")) << from;
  }
}

TEST_F(DumpTest, BeginsAtATime) {
  append("a\t1\n");
  std::this_thread::sleep_for(milliseconds(5));
  const auto between = std::chrono::system_clock::now();
  std::this_thread::sleep_for(milliseconds(5));
  append("b\t2\n");
  EXPECT_EQ(dump_tsv({"--from", "time:" + iso(between)}), "b\t2\n");
  EXPECT_EQ(dump_tsv({"--from", "time:2020-01-01"}), "a\t1\nb\t2\n");
  EXPECT_EQ(dump_tsv({"--from", "time:2261-01-01T00:00:00Z"}), "");
}

TEST_F(DumpTest, StopsAtTheLimit) {
  append(numbered_lines(0, 10));
  EXPECT_EQ(dump_tsv({"--limit", "0"}), "");
  EXPECT_EQ(dump_tsv({"--limit", "4"}), numbered_lines(0, 4));
  EXPECT_EQ(dump_tsv({"--limit", "4", "--from", "seq:8"}), numbered_lines(8, 10));
}

TEST_F(DumpTest, ADeletedPlaceIsNotThere) {
  append(many_lines(), kSmallSegments);
  const std::string first_place = dump_json({"--limit", "1"})[0]["position"];
  ASSERT_EQ(run({"gc", log(), "--before", "seq:200"}).exit_code, 0);
  EXPECT_TRUE(failed_with(run({"dump", log(), "--from", "seq:0"}), 1, ""));
  EXPECT_TRUE(failed_with(run({"dump", log(), "--from", first_place}), 1, ""));
  const auto left = dump_json();
  ASSERT_FALSE(left.empty());
  EXPECT_GT(left.front()["sequence"], 0);
  EXPECT_LE(left.front()["sequence"], 200);
}

// --- beside writers

TEST_F(DumpTest, SeesWhatALiveWriterHasAppended) {
  RunningTool writer({"append", log(), "--ack", "appended", "--fsync", "os"});
  for (std::uint64_t number = 0; number < 5; ++number) {
    ASSERT_TRUE(writer.write(numbered_lines(number, number + 1)));
    ASSERT_TRUE(writer.read_line());
    EXPECT_EQ(dump_tsv(), numbered_lines(0, number + 1));
  }
  EXPECT_TRUE(went_well(writer.wait()));
  EXPECT_EQ(dump_tsv(), numbered_lines(0, 5));
}

TEST_F(DumpTest, DurableLeavesOutWhatAPowerCutCouldTake) {
  RunningTool writer({"append", log(), "--ack", "appended", "--fsync", "os"});
  ASSERT_TRUE(writer.write(numbered_lines(0, 5)));
  for (int count = 0; count < 5; ++count) {
    ASSERT_TRUE(writer.read_line());
  }
  EXPECT_EQ(dump_tsv({"--durable"}), "");
  EXPECT_EQ(dump_tsv(), numbered_lines(0, 5));
  EXPECT_TRUE(went_well(writer.wait()));
  EXPECT_EQ(dump_tsv({"--durable"}), numbered_lines(0, 5));
}

TEST_F(DumpTest, SeesWhatAKilledWriterHasAppendedAndChangesNothing) {
  append(numbered_lines(0, 3));
  RunningTool writer({"append", log(), "--ack", "appended", "--fsync", "os"});
  ASSERT_TRUE(writer.write(numbered_lines(3, 6)));
  for (int count = 0; count < 3; ++count) {
    ASSERT_TRUE(writer.read_line());
  }
  writer.kill(SIGKILL);
  EXPECT_EQ(writer.wait().signal, SIGKILL);
  const auto before = everything_in(log());
  EXPECT_EQ(dump_tsv(), numbered_lines(0, 6));
  EXPECT_TRUE(went_well(run({"tail", log()})));
  EXPECT_TRUE(went_well(run({"stat", log()})));
  EXPECT_TRUE(went_well(run({"verify", log()})));
  EXPECT_EQ(everything_in(log()), before);
}

// --- what is not there

TEST_F(DumpTest, AMissingDirectoryIsNotThereAndIsNotMade) {
  for (const char* const command : {"dump", "tail", "stat", "verify"}) {
    EXPECT_TRUE(failed_with(run({command, log()}), 1, log())) << command;
  }
  EXPECT_TRUE(failed_with(run({"gc", log(), "--before", "seq:0"}), 1, log()));
  EXPECT_FALSE(std::filesystem::exists(log()));
}

TEST_F(DumpTest, AForeignDirectoryIsNotThereAndIsLeftAlone) {
  std::filesystem::create_directory(log());
  for (int round = 0; round < 2; ++round) {
    const auto before = everything_in(log());
    for (const char* const command : {"dump", "tail", "stat", "verify"}) {
      EXPECT_TRUE(failed_with(run({command, log()}), 1, log())) << command;
    }
    EXPECT_TRUE(failed_with(run({"gc", log(), "--before", "seq:0"}), 1, log()));
    EXPECT_EQ(everything_in(log()), before);
    std::filesystem::create_directory(log() + "/photos");
  }
}

// --- damage

TEST_F(DumpTest, PrintsUpToDamageAndSaysWhat) {
  append(many_lines(), kSmallSegments);
  damage(log() + "/000001.wal", "value-100-");
  const auto finished = run({"dump", log()});
  EXPECT_TRUE(failed_with(finished, 1, "000001.wal"));
  EXPECT_EQ(lines_of(finished.out).size(), 100U);
}

TEST_F(DumpTest, SkipDamagedGoesOnAndMarksTheGap) {
  append(many_lines(), kSmallSegments);
  damage(log() + "/000001.wal", "value-100-");
  const auto finished = run({"dump", log(), "--skip-damaged"});
  EXPECT_TRUE(failed_with(finished, 1, "000001.wal"));
  std::uint64_t next = 0;
  int gaps = 0;
  for (const auto& line : lines_of(finished.out)) {
    const auto parsed = nlohmann::json::parse(line);
    if (parsed.contains("gap")) {
      EXPECT_EQ(parsed["gap"]["from_sequence"], 100);
      EXPECT_EQ(parsed["gap"]["to_sequence"], 101);
      EXPECT_FALSE(parsed["gap"]["reason"].get<std::string>().empty());
      next = parsed["gap"]["to_sequence"];
      ++gaps;
      continue;
    }
    EXPECT_EQ(parsed["sequence"], next);
    ++next;
  }
  EXPECT_EQ(gaps, 1);
  EXPECT_EQ(next, kManyRecords);
}

TEST_F(DumpTest, WhatIsLeftOfADamagedLogFeedsAppend) {
  append(many_lines(), kSmallSegments);
  damage(log() + "/000001.wal", "value-100-");
  const auto dumped = run({"dump", log(), "--skip-damaged"});
  ASSERT_TRUE(went_well(run({"append", path("copy"), "--format", "jsonl"}, dumped.out)));
  auto expected = lines_of(many_lines());
  expected.erase(expected.begin() + 100);
  EXPECT_EQ(lines_of(run({"dump", path("copy"), "--format", "tsv"}).out), expected);
}

TEST_F(DumpTest, InTsvTheGapIsMarkedOnStandardError) {
  append(many_lines(), kSmallSegments);
  damage(log() + "/000001.wal", "value-100-");
  const auto finished = run({"dump", log(), "--skip-damaged", "--format", "tsv"});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_TRUE(finished.err.contains("records 100 to 100 cannot be read")) << finished.err;
  EXPECT_EQ(lines_of(finished.out).size(), kManyRecords - 1);
}

// --- how it ends

TEST_F(DumpTest, AReaderThatGoesAwayEndsItQuietly) {
  append(many_lines());
  RunningTool tool({"dump", log()});
  ASSERT_TRUE(tool.read_line());
  tool.close_output();
  EXPECT_TRUE(ended_quietly_by(tool.wait(), SIGPIPE));
}

TEST_F(DumpTest, OutputThatCannotBeWrittenIsAFailure) {
  append(numbered_lines(0, 3));
  for (const Arguments& arguments :
       {Arguments{"dump", log()}, {"tail", log()}, {"stat", log()}, {"verify", log(), "--json"}}) {
    RunningTool tool(arguments, "/dev/full");
    EXPECT_TRUE(failed_with(tool.wait(), 3, "No space left")) << arguments.front();
  }
}

}  // namespace
}  // namespace nori::cli_tests
