// nori append: formats, batches, acknowledgments, and how it ends.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <set>
#include <string>
#include <thread>

#include "tests/cli/tool.h"

namespace nori::cli_tests {
namespace {

using std::chrono::milliseconds;
using AppendTest = ToolTest;

// Longer than it takes to acknowledge anything that is going to be.
constexpr milliseconds kNothingComes{150};

// An acknowledgment taken apart.
struct Ack {
  std::uint64_t sequence = 0;
  std::string place;
};
Ack ack_of(const std::string& line) {
  const auto tab = line.find('\t');
  EXPECT_NE(tab, std::string::npos) << line;
  return {.sequence = std::stoull(line), .place = line.substr(tab + 1)};
}
std::optional<Ack> next_ack(RunningTool& tool) {
  const auto line = tool.read_line();
  return line ? std::optional(ack_of(*line)) : std::nullopt;
}

TEST_F(AppendTest, MakesALogAndSaysNothing) {
  EXPECT_EQ(append("a\t1\nb\t2\na\n").out, "");
  EXPECT_EQ(dump_tsv(), "a\t1\nb\t2\na\n");
}

TEST_F(AppendTest, GoesOnBehindWhatIsThere) {
  append(numbered_lines(0, 3));
  append(numbered_lines(3, 5));
  EXPECT_EQ(dump_tsv(), numbered_lines(0, 5));
}

TEST_F(AppendTest, NoInputIsAnEmptyLog) {
  append("");
  EXPECT_EQ(dump_tsv(), "");
}

TEST_F(AppendTest, AMissingLastNewlineIsFine) {
  append("a\t1\nb\t2");
  EXPECT_EQ(dump_tsv(), "a\t1\nb\t2\n");
}

TEST_F(AppendTest, TsvCarriesAllBytes) {
  std::string all_bytes;
  for (int byte = 0; byte < 256; ++byte) {
    switch (byte) {
      case '\t':
        all_bytes += "\\t";
        break;
      case '\n':
        all_bytes += "\\n";
        break;
      case '\r':
        all_bytes += "\\r";
        break;
      case '\\':
        all_bytes += "\\\\";
        break;
      default:
        all_bytes += static_cast<char>(byte);
    }
  }
  const std::string input = all_bytes + "\t" + all_bytes + all_bytes + "\n" + all_bytes + "\n";
  append(input);
  EXPECT_EQ(dump_tsv(), input);
  const auto records = dump_json();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0]["op"], "put");
  EXPECT_EQ(records[0]["key_b64"].get<std::string>().size(), (256 + 2) / 3 * 4);
  EXPECT_EQ(records[1]["op"], "delete");
}

TEST_F(AppendTest, ARawCarriageReturnIsData) {
  append("k\r\tv\r\n");
  const auto records = dump_json();
  ASSERT_EQ(records.size(), 1U);
  EXPECT_EQ(records[0]["key"], "k\r");
  EXPECT_EQ(records[0]["value"], "v\r");
}

TEST_F(AppendTest, AnEmptyLineIsATombstoneOfTheEmptyKey) {
  append("\n\t\n");
  const auto records = dump_json();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0]["op"], "delete");
  EXPECT_EQ(records[0]["key"], "");
  EXPECT_EQ(records[1]["op"], "put");
  EXPECT_EQ(records[1]["value"], "");
}

TEST_F(AppendTest, ReadsLinesAsValues) {
  append("one\ttwo\\\n\n", {"--format", "lines"});
  const auto records = dump_json();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0]["key"], "");
  EXPECT_EQ(records[0]["value"], "one\ttwo\\");
  EXPECT_EQ(records[1]["value"], "");
}

TEST_F(AppendTest, ReadsJsonl) {
  append(R"({"op":"put","key":"a","value":"1","expires_at_ms":1767225600000})"
         "\n"
         R"({"op":"put","key_b64":"/w==","value_b64":""})"
         "\n"
         R"({"op":"delete","key":"a"})"
         "\n",
         {"--format", "jsonl"});
  const auto records = dump_json();
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[0]["expires_at_ms"], 1767225600000);
  EXPECT_EQ(records[1]["key_b64"], "/w==");
  EXPECT_EQ(records[1]["value"], "");
  EXPECT_EQ(records[2]["op"], "delete");
  EXPECT_FALSE(records[2].contains("value"));
}

TEST_F(AppendTest, TakesLinesLongerThanItsBuffersAndItsSegments) {
  const std::string input =
      "small\t1\n"
      "large\t" +
      std::string(3 << 20, 'x') + "\nsmall\t2\n";
  append(input, {"--segment-bytes", "1M", "--ring-bytes", "64K"});
  EXPECT_EQ(dump_tsv(), input);
}

TEST_F(AppendTest, EveryIoAndRingWorks) {
  std::uint64_t next = 0;
  for (const char* const io : {"automatic", "buffered"}) {
    for (const char* const ring : {"64K", "none"}) {
      for (const char* const policy : {"always", "os", "batch", "batch=1"}) {
        append(numbered_lines(next, next + 20),
               {"--io", io, "--ring-bytes", ring, "--fsync", policy});
        next += 20;
      }
    }
  }
  EXPECT_EQ(dump_tsv(), numbered_lines(0, next));
}

// --- malformed input

TEST_F(AppendTest, AMalformedLineStopsWithItsNumberAndKeepsWhatCameBefore) {
  const auto finished = run({"append", log()}, "a\t1\nb\t2\nc\t3\t4\nx\t5\n");
  EXPECT_TRUE(failed_with(finished, 3, "line 3")) << finished.err;
  EXPECT_EQ(dump_tsv(), "a\t1\nb\t2\n");
}

TEST_F(AppendTest, AMalformedLastLineCountsToo) {
  const auto finished = run({"append", log()}, "a\t1\nb\\");
  EXPECT_TRUE(failed_with(finished, 3, "line 2")) << finished.err;
  EXPECT_EQ(dump_tsv(), "a\t1\n");
}

TEST_F(AppendTest, MalformedJsonStops) {
  const auto finished =
      run({"append", log(), "--format", "jsonl"}, R"({"op":"put","key":"a","value":"1"})"
                                                  "\n{\"op\":\"put\"}\n");
  EXPECT_TRUE(failed_with(finished, 3, "line 2")) << finished.err;
  EXPECT_EQ(dump_tsv(), "a\t1\n");
}

TEST_F(AppendTest, AMalformedLineKeepsTheBatchesBeforeItsOwn) {
  const auto finished =
      run({"append", log(), "--batch", "2"}, "a\t1\nb\t2\nc\t3\nx\t4\t5\ne\t6\nf\t7\n");
  EXPECT_TRUE(failed_with(finished, 3, "line 4")) << finished.err;
  EXPECT_TRUE(finished.err.contains("from line 3 on")) << finished.err;
  EXPECT_EQ(dump_tsv(), "a\t1\nb\t2\n");
}

// --- batches

TEST_F(AppendTest, BatchesAreAtomicAndTheLastMayBeShorter) {
  const auto finished = append(numbered_lines(0, 7), {"--batch", "3", "--ack", "appended"});
  std::vector<bool> ends_batch;
  for (const auto& record : dump_json()) {
    ends_batch.push_back(record["ends_batch"].get<bool>());
  }
  EXPECT_EQ(ends_batch, (std::vector{false, false, true, false, false, true, true}));
  // A record's own sequence, its batch's place.
  std::set<std::string> places;
  std::uint64_t sequence = 0;
  for (const auto& line : lines_of(finished.out)) {
    const Ack ack = ack_of(line);
    EXPECT_EQ(ack.sequence, sequence++);
    places.insert(ack.place);
  }
  EXPECT_EQ(sequence, 7U);
  EXPECT_EQ(places.size(), 3U);
}

// --- acknowledgments

TEST_F(AppendTest, AcknowledgmentsNameSequenceAndPlace) {
  for (const char* const level : {"appended", "durable"}) {
    for (const char* const policy : {"always", "batch", "os"}) {
      const auto finished = append(
          numbered_lines(0, 300),
          {"--ack", level, "--fsync", policy, "--segment-bytes", "64K", "--ring-bytes", "64K"});
      const auto acks = lines_of(finished.out);
      ASSERT_EQ(acks.size(), 300U);
      const std::string first = std::to_string(ack_of(acks.front()).sequence);
      const auto records = dump_json({"--from", "seq:" + first});
      ASSERT_EQ(records.size(), 300U);
      for (std::size_t i = 0; i < acks.size(); ++i) {
        EXPECT_EQ(acks[i], fmt::format("{}\t{}", records[i]["sequence"].get<std::uint64_t>(),
                                       records[i]["position"].get<std::string>()));
      }
    }
  }
}

TEST_F(AppendTest, AppendedIsAcknowledgedWhileInputIsOpen) {
  for (const char* const policy : {"os", "batch=60000", "always"}) {
    RunningTool tool({"append", path(policy), "--ack", "appended", "--fsync", policy});
    for (std::uint64_t sequence = 0; sequence < 3; ++sequence) {
      ASSERT_TRUE(tool.write(numbered_lines(sequence, sequence + 1)));
      const auto ack = next_ack(tool);
      ASSERT_TRUE(ack) << policy;
      EXPECT_EQ(ack->sequence, sequence);
    }
    // A line that has not ended yet is not a record yet.
    ASSERT_TRUE(tool.write("unfinished"));
    EXPECT_FALSE(tool.read_line(kNothingComes));
    ASSERT_TRUE(tool.write("\n"));
    EXPECT_TRUE(next_ack(tool));
    EXPECT_TRUE(went_well(tool.wait()));
  }
}

TEST_F(AppendTest, DurableIsAcknowledgedWhileInputIsOpenWhereThePolicySaysSo) {
  for (const char* const policy : {"always", "batch=1"}) {
    RunningTool tool({"append", path(policy), "--ack", "durable", "--fsync", policy});
    for (std::uint64_t sequence = 0; sequence < 3; ++sequence) {
      ASSERT_TRUE(tool.write(numbered_lines(sequence, sequence + 1)));
      const auto ack = next_ack(tool);
      ASSERT_TRUE(ack) << policy;
      EXPECT_EQ(ack->sequence, sequence);
    }
    EXPECT_TRUE(went_well(tool.wait()));
  }
}

TEST_F(AppendTest, UnderOsDurableIsAcknowledgedOnClose) {
  RunningTool tool({"append", log(), "--ack", "durable", "--fsync", "os"});
  ASSERT_TRUE(tool.write(numbered_lines(0, 3)));
  EXPECT_FALSE(tool.read_line(kNothingComes));
  const auto finished = tool.wait();
  EXPECT_TRUE(went_well(finished));
  EXPECT_EQ(lines_of(finished.out).size(), 3U);
}

TEST_F(AppendTest, ABatchIsAcknowledgedWhenItIsComplete) {
  RunningTool tool({"append", log(), "--ack", "appended", "--batch", "2"});
  ASSERT_TRUE(tool.write(numbered_lines(0, 3)));
  EXPECT_EQ(next_ack(tool)->sequence, 0U);
  EXPECT_EQ(next_ack(tool)->sequence, 1U);
  EXPECT_FALSE(tool.read_line(kNothingComes));
  tool.close_input();
  EXPECT_EQ(next_ack(tool)->sequence, 2U);
  EXPECT_TRUE(went_well(tool.wait()));
}

// Goal: what was acknowledged survives a SIGKILL, and what is there is a prefix of the input.
// Method: feed a writer without end, kill it after some acknowledgments, under every policy, again
// and again on one log; look at it read-only, as the killed writer left it, then go on with it.
TEST_F(AppendTest, WhatWasAcknowledgedSurvivesAKill) {
  std::uint64_t next = 0;
  int round = 0;
  for (const char* const policy : {"always", "batch", "os", "always", "batch", "os"}) {
    for (const char* const level : {"appended", "durable"}) {
      if (policy == std::string_view("os") && level == std::string_view("durable")) {
        continue;  // none comes
      }
      const Arguments arguments = {"append",       log(),  "--ack",           level,
                                   "--fsync",      policy, "--segment-bytes", "64K",
                                   "--ring-bytes", "64K"};
      RunningTool tool(arguments);
      std::thread writer([&tool, next] {
        for (std::uint64_t number = next; tool.write(numbered_lines(number, number + 10));) {
          number += 10;
        }
      });
      std::uint64_t acknowledged = next;
      for (int count = 0; count < 50 + 37 * round; ++count) {
        const auto ack = next_ack(tool);
        if (!ack) {
          break;
        }
        EXPECT_EQ(ack->sequence, acknowledged);
        acknowledged = ack->sequence + 1;
      }
      EXPECT_GT(acknowledged, next) << policy << ' ' << level;
      tool.kill(SIGKILL);
      while (const auto line = tool.read_line()) {
        // What it had written before counts, a line cut short by the kill apart.
        acknowledged = ack_of(*line).sequence + 1;
      }
      writer.join();
      EXPECT_EQ(tool.wait().signal, SIGKILL);

      const std::string there = dump_tsv();
      next = lines_of(there).size();
      EXPECT_GE(next, acknowledged) << policy << ' ' << level;
      EXPECT_EQ(there, numbered_lines(0, next)) << policy << ' ' << level;
      ++round;
    }
  }
}

// --- how it ends

TEST_F(AppendTest, SigintClosesTheLogAndEndsQuietly) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string directory = path(std::to_string(signal));
    RunningTool tool({"append", directory, "--ack", "durable", "--fsync", "os"});
    ASSERT_TRUE(tool.write("a\t1\nb\t2\nunfinished"));
    while (run({"dump", directory}).out.find("\"b\"") == std::string::npos) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    tool.kill(signal);
    const auto finished = tool.wait();
    EXPECT_TRUE(ended_quietly_by(finished, signal));
    // Closing made them durable.
    EXPECT_EQ(lines_of(finished.out).size(), 2U);
    EXPECT_EQ(run({"dump", directory, "--format", "tsv"}).out, "a\t1\nb\t2\n");
  }
}

TEST_F(AppendTest, SigintEndsItWhileInputKeepsComing) {
  RunningTool tool({"append", log(), "--ring-bytes", "64K"});
  std::thread writer([&tool] {
    while (tool.write(numbered_lines(0, 1000))) {
    }
  });
  std::this_thread::sleep_for(milliseconds(50));
  tool.kill(SIGINT);
  writer.join();
  EXPECT_TRUE(ended_quietly_by(tool.wait(), SIGINT));
}

TEST_F(AppendTest, AReaderOfAcknowledgmentsThatGoesAwayEndsItQuietly) {
  RunningTool tool({"append", log(), "--ack", "appended"});
  ASSERT_TRUE(tool.write("a\t1\n"));
  ASSERT_TRUE(next_ack(tool));
  tool.close_output();
  ASSERT_TRUE(tool.write("b\t2\n"));
  EXPECT_TRUE(ended_quietly_by(tool.wait(), SIGPIPE));
  EXPECT_EQ(dump_tsv(), "a\t1\nb\t2\n");
}

TEST_F(AppendTest, AcknowledgmentsThatCannotBeWrittenAreAFailure) {
  RunningTool tool({"append", log(), "--ack", "appended"}, "/dev/full");
  ASSERT_TRUE(tool.write("a\t1\n"));
  EXPECT_TRUE(failed_with(tool.wait(), 3, "No space left"));
  EXPECT_EQ(dump_tsv(), "a\t1\n");
}

TEST_F(AppendTest, ASecondWriterIsToldWhoHoldsTheLog) {
  RunningTool first({"append", log(), "--ack", "appended"});
  ASSERT_TRUE(first.write("a\t1\n"));
  ASSERT_TRUE(next_ack(first));
  const auto second = run({"append", log()}, "b\t2\n");
  EXPECT_TRUE(failed_with(second, 3, "process "));
  EXPECT_TRUE(went_well(first.wait()));
  EXPECT_EQ(dump_tsv(), "a\t1\n");
}

TEST_F(AppendTest, ADirectoryThatHoldsSomethingElseIsLeftAlone) {
  std::filesystem::create_directory(log());
  ASSERT_TRUE(std::filesystem::create_directory(log() + "/photos"));
  const auto before = everything_in(log());
  EXPECT_TRUE(failed_with(run({"append", log()}, "a\t1\n"), 1, log()));
  EXPECT_EQ(everything_in(log()), before);
}

TEST_F(AppendTest, AnEmptyDirectoryBecomesALog) {
  std::filesystem::create_directory(log());
  append("a\t1\n");
  EXPECT_EQ(dump_tsv(), "a\t1\n");
}

TEST_F(AppendTest, ADamagedLogTakesNothing) {
  append(numbered_lines(0, 10));
  damage_at(log() + "/000000.wal", 0);
  // The lock file says who opened it last.
  const auto log_files = [this] {
    auto files = everything_in(log());
    std::erase_if(files, [](const std::string& file) { return file.contains("/lock,"); });
    return files;
  };
  const auto before = log_files();
  EXPECT_TRUE(failed_with(run({"append", log()}, "a\t1\n"), 1, "000000.wal"));
  EXPECT_EQ(log_files(), before);
}

}  // namespace
}  // namespace nori::cli_tests
