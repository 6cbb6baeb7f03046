// nori stat, verify and gc: what they report, and the documented JSON fields.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "tests/cli/tool.h"

namespace nori::cli_tests {
namespace {

using nlohmann::json;
using ReportTest = ToolTest;

std::set<std::string> names_in(const json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : object.items()) {
    names.insert(name);
  }
  return names;
}

// 300 records in several segments.
std::string many_lines() {
  std::string lines;
  for (int number = 0; number < 300; ++number) {
    lines += fmt::format("key-{}\tvalue-{}-{}\n", number, number, std::string(800, '.'));
  }
  return lines;
}
const Arguments kSmallSegments = {"--segment-bytes", "64K", "--ring-bytes", "64K"};

std::uint64_t segment_files(const std::string& directory) {
  std::uint64_t count = 0;
  for (const auto& file : std::filesystem::directory_iterator(directory)) {
    count += file.path().extension() == ".wal" ? 1 : 0;
  }
  return count;
}
std::uint64_t segment_bytes(const std::string& directory) {
  std::uint64_t bytes = 0;
  for (const auto& file : std::filesystem::directory_iterator(directory)) {
    bytes += file.path().extension() == ".wal" ? file.file_size() : 0;
  }
  return bytes;
}

// --- stat

TEST_F(ReportTest, StatPrintsTheDocumentedFields) {
  append(many_lines(), kSmallSegments);
  const auto finished = run({"stat", log(), "--json"});
  ASSERT_TRUE(went_well(finished));
  const json stat = json::parse(finished.out);
  EXPECT_EQ(
      names_in(stat),
      (std::set<std::string>{"directory", "segments", "records", "first_sequence", "next_sequence",
                             "durable_mark", "bytes", "bytes_padding", "bytes_torn", "damaged",
                             "ring", "io", "opening", "holds", "records_live", "record_bytes",
                             "record_bytes_live", "tombstones", "segment_files"}));
  EXPECT_EQ(names_in(stat["segment_files"][0]),
            (std::set<std::string>{"file", "bytes", "bytes_padding", "records", "first_sequence",
                                   "end_sequence", "records_live", "record_bytes",
                                   "record_bytes_live", "tombstones"}));
  EXPECT_EQ(stat["segment_files"].size(), segment_files(log()));
  EXPECT_EQ(stat["records_live"], 300);
  EXPECT_EQ(names_in(stat["ring"]),
            (std::set<std::string>{"bytes", "bytes_used", "records", "reason"}));
  EXPECT_EQ(names_in(stat["io"]), (std::set<std::string>{"mode", "reason", "block_bytes"}));
  EXPECT_EQ(names_in(stat["opening"]), (std::set<std::string>{"time_us", "segments_scanned"}));
  EXPECT_EQ(stat["opening"]["segments_scanned"], 0) << "it was closed";
  EXPECT_GT(stat["opening"]["time_us"], 0);
  EXPECT_EQ(stat["directory"], log());
  EXPECT_EQ(stat["segments"], segment_files(log()));
  EXPECT_EQ(stat["records"], 300);
  EXPECT_EQ(stat["first_sequence"], 0);
  EXPECT_EQ(stat["next_sequence"], 300);
  EXPECT_EQ(stat["durable_mark"], 300);
  EXPECT_EQ(stat["bytes"], segment_bytes(log()));
  EXPECT_EQ(stat["bytes_torn"], 0);
  EXPECT_EQ(stat["damaged"], false);
  EXPECT_TRUE(stat["io"]["mode"] == "direct" || stat["io"]["mode"] == "buffered");
}

TEST_F(ReportTest, QuickStatLeavesOutWhatTakesReadingEverything) {
  append(many_lines(), kSmallSegments);
  const auto finished = run({"stat", log(), "--json", "--quick"});
  ASSERT_TRUE(went_well(finished));
  const json stat = json::parse(finished.out);
  EXPECT_FALSE(stat.contains("bytes_padding"));
  EXPECT_FALSE(stat.contains("bytes_torn"));
  EXPECT_FALSE(stat["ring"].contains("records"));
  EXPECT_EQ(stat["segments"], segment_files(log()));
  EXPECT_EQ(stat["records"], 300);
  EXPECT_EQ(stat["durable_mark"], 300);
}

TEST_F(ReportTest, StatTellsPeopleTheSame) {
  append(numbered_lines(0, 3));
  const auto finished = run({"stat", log()});
  ASSERT_TRUE(went_well(finished));
  for (const char* const words : {"segments", "records", "0 to 2", "bytes", "padding", "ring",
                                  "durable mark", "io", "opening"}) {
    EXPECT_TRUE(finished.out.contains(words)) << words << " is not in " << finished.out;
  }
}

TEST_F(ReportTest, StatWorksBesideALiveWriter) {
  RunningTool writer({"append", log(), "--ack", "appended", "--fsync", "os"});
  ASSERT_TRUE(writer.write(numbered_lines(0, 3)));
  for (int count = 0; count < 3; ++count) {
    ASSERT_TRUE(writer.read_line());
  }
  const json stat = json::parse(run({"stat", log(), "--json"}).out);
  EXPECT_EQ(stat["records"], 3);
  EXPECT_EQ(stat["durable_mark"], 0);
  EXPECT_EQ(stat["damaged"], false);
  EXPECT_TRUE(went_well(writer.wait()));
}

TEST_F(ReportTest, StatOfADamagedLogSaysSo) {
  append(many_lines(), kSmallSegments);
  damage(log() + "/000001.wal", "value-100-");
  const auto finished = run({"stat", log(), "--json"});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_EQ(json::parse(finished.out)["damaged"], true);
}

// --- verify

TEST_F(ReportTest, VerifyPrintsTheDocumentedFields) {
  append(many_lines(), kSmallSegments);
  const auto finished = run({"verify", log(), "--json"});
  ASSERT_TRUE(went_well(finished));
  const json report = json::parse(finished.out);
  EXPECT_EQ(names_in(report),
            (std::set<std::string>{"segments", "records", "bytes", "records_in_ring", "ring_note",
                                   "first_sequence", "next_sequence", "durable_mark", "bytes_torn",
                                   "damages", "foreign_files"}));
  EXPECT_EQ(report["records"], 300);
  EXPECT_EQ(report["bytes"], segment_bytes(log()));
  EXPECT_EQ(report["records_in_ring"], 0);
  EXPECT_EQ(report["first_sequence"], 0);
  EXPECT_EQ(report["next_sequence"], 300);
  EXPECT_EQ(report["durable_mark"], 300);
  EXPECT_EQ(report["bytes_torn"], 0);
  EXPECT_TRUE(report["damages"].empty());
  EXPECT_TRUE(report["foreign_files"].empty());

  ASSERT_EQ(report["segments"].size(), segment_files(log()));
  std::uint64_t next = 0;
  for (std::size_t i = 0; i < report["segments"].size(); ++i) {
    const json& segment = report["segments"][i];
    EXPECT_EQ(names_in(segment),
              (std::set<std::string>{"segment", "file", "bytes", "records", "frames",
                                     "bytes_padding", "first_sequence", "end_sequence", "sealed"}));
    EXPECT_EQ(segment["segment"], i);
    EXPECT_EQ(segment["file"], fmt::format("{:06}.wal", i));
    EXPECT_EQ(segment["first_sequence"], next);
    next = segment["end_sequence"];
    EXPECT_EQ(segment["records"], next - segment["first_sequence"].get<std::uint64_t>());
    EXPECT_EQ(segment["sealed"], i + 1 < report["segments"].size());
  }
  EXPECT_EQ(next, 300U);
}

TEST_F(ReportTest, VerifyNamesEachDamage) {
  append(many_lines(), kSmallSegments);
  const std::string place = dump_json({"--from", "seq:100", "--limit", "1"})[0]["position"];
  damage(log() + "/000001.wal", "value-100-");
  damage(log() + "/000002.wal", "value-150-");
  const auto finished = run({"verify", log(), "--json"});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_EQ(finished.err, "");
  const json damages = json::parse(finished.out)["damages"];
  ASSERT_EQ(damages.size(), 2U);
  EXPECT_EQ(names_in(damages[0]), (std::set<std::string>{"segment", "offset", "length", "reason"}));
  EXPECT_EQ(fmt::format("{}:{}", damages[0]["segment"].get<int>(), damages[0]["offset"].get<int>()),
            place);
  EXPECT_GT(damages[0]["length"], 800);
  EXPECT_FALSE(damages[0]["reason"].get<std::string>().empty());

  const auto text = run({"verify", log()});
  EXPECT_EQ(text.exit_code, 1);
  EXPECT_TRUE(text.out.contains("damage: segment 1 offset ")) << text.out;
  EXPECT_TRUE(text.out.contains("2 damages")) << text.out;
}

TEST_F(ReportTest, VerifyReportsForeignFiles) {
  append(numbered_lines(0, 3));
  std::ofstream(log() + "/notes.txt") << "mine";
  const auto finished = run({"verify", log(), "--json"});
  EXPECT_TRUE(went_well(finished));
  EXPECT_EQ(json::parse(finished.out)["foreign_files"], json::array({"notes.txt"}));
  EXPECT_TRUE(run({"verify", log()}).out.contains("notes.txt"));
}

TEST_F(ReportTest, VerifyFindsWhatAKilledWriterLeftInTheRing) {
  RunningTool writer({"append", log(), "--ack", "appended", "--fsync", "os"});
  ASSERT_TRUE(writer.write(numbered_lines(0, 3)));
  for (int count = 0; count < 3; ++count) {
    ASSERT_TRUE(writer.read_line());
  }
  writer.kill(SIGKILL);
  EXPECT_EQ(writer.wait().signal, SIGKILL);
  const auto finished = run({"verify", log(), "--json"});
  EXPECT_TRUE(went_well(finished));
  const json report = json::parse(finished.out);
  EXPECT_EQ(report["records"], 3);
  EXPECT_EQ(report["next_sequence"], 3);
  EXPECT_TRUE(report["damages"].empty());
}

// --- gc

TEST_F(ReportTest, GcDeletesWhatLiesBeforeASequence) {
  append(many_lines(), kSmallSegments);
  const auto segments_before = segment_files(log());
  const auto bytes_before = segment_bytes(log());
  const auto finished = run({"gc", log(), "--before", "seq:200", "--json"});
  ASSERT_TRUE(went_well(finished));
  const json report = json::parse(finished.out);
  EXPECT_EQ(names_in(report), (std::set<std::string>{"dry_run", "segments_deleted", "bytes_freed",
                                                     "first_sequence", "holds"}));
  EXPECT_GT(report["segments_deleted"], 0);
  EXPECT_EQ(report["segments_deleted"], segments_before - segment_files(log()));
  EXPECT_GT(report["bytes_freed"], 0);
  EXPECT_LT(report["bytes_freed"], bytes_before);
  EXPECT_EQ(report["first_sequence"], dump_json({"--limit", "1"})[0]["sequence"]);
  EXPECT_EQ(dump_json({"--from", "seq:200"}).size(), 100U);
}

TEST_F(ReportTest, GcDeletesWhatLiesBeforeAPlace) {
  append(many_lines(), kSmallSegments);
  const std::string place = dump_json({"--from", "seq:200", "--limit", "1"})[0]["position"];
  ASSERT_TRUE(went_well(run({"gc", log(), "--before", place})));
  EXPECT_GT(dump_json({"--limit", "1"})[0]["sequence"], 0);
  EXPECT_EQ(dump_json({"--from", place}).size(), 100U);
  // Once more there is nothing to do.
  const auto again = run({"gc", log(), "--before", place});
  EXPECT_TRUE(went_well(again));
  EXPECT_TRUE(again.out.starts_with("0 segments deleted, 0 bytes freed")) << again.out;
}

TEST_F(ReportTest, GcNeverDeletesTheNewestSegment) {
  append(many_lines(), kSmallSegments);
  ASSERT_TRUE(went_well(run({"gc", log(), "--before", "seq:300"})));
  EXPECT_GE(segment_files(log()), 1U);
  append("more\t1\n");
  EXPECT_EQ(dump_json({"--from", "seq:300"}).size(), 1U);
}

TEST_F(ReportTest, GcOfAPlaceThatIsNotThereDeletesNothing) {
  append(many_lines(), kSmallSegments);
  const auto segments_before = segment_files(log());
  for (const char* const place : {"seq:301", "0:1", "99:4096"}) {
    EXPECT_TRUE(failed_with(run({"gc", log(), "--before", place}), 1, "")) << place;
  }
  EXPECT_EQ(segment_files(log()), segments_before);
  EXPECT_EQ(dump_json().size(), 300U);
}

// --- compact, and what it would take

// The mission page's five records, of which one counts.
TEST_F(ReportTest, StatTellsHowMuchIsWasted) {
  append("user:1\tv1\nuser:1\tv2\nuser:1\tv3\nuser:2\tv1\nuser:1\n");
  const auto text = run({"stat", log(), "--segments"});
  ASSERT_TRUE(went_well(text));
  EXPECT_TRUE(text.out.contains("80 % of the records")) << text.out;
  EXPECT_TRUE(text.out.contains("000000.wal")) << text.out;
  const json stat = json::parse(run({"stat", log(), "--json"}).out);
  EXPECT_EQ(stat["records"], 5);
  EXPECT_EQ(stat["records_live"], 1);
  EXPECT_EQ(stat["tombstones"], 1);
  EXPECT_LT(stat["record_bytes_live"], stat["record_bytes"]);
}

TEST_F(ReportTest, CompactKeepsTheNewestRecordOfEachKey) {
  append(many_lines(), kSmallSegments);
  append(many_lines(), kSmallSegments);
  const auto bytes_before = segment_bytes(log());
  const json planned = json::parse(run({"compact", log(), "--dry-run", "--json"}).out);
  EXPECT_EQ(segment_bytes(log()), bytes_before);
  EXPECT_EQ(planned["dry_run"], true);
  const auto finished = run({"compact", log(), "--json"});
  ASSERT_TRUE(went_well(finished));
  const json report = json::parse(finished.out);
  EXPECT_EQ(names_in(report),
            (std::set<std::string>{"dry_run", "files_before", "files_after", "bytes_before",
                                   "bytes_after", "records_before", "records_after",
                                   "tombstones_dropped", "files"}));
  EXPECT_EQ(report["records_after"], planned["records_after"]);
  EXPECT_EQ(bytes_before - segment_bytes(log()), report["bytes_before"].get<std::uint64_t>() -
                                                     report["bytes_after"].get<std::uint64_t>());
  EXPECT_LT(segment_bytes(log()), bytes_before);
  const json stat = json::parse(run({"stat", log(), "--json"}).out);
  EXPECT_EQ(stat["records_live"], 300);
  EXPECT_TRUE(went_well(run({"verify", log()})));
  EXPECT_EQ(dump_json({"--from", "seq:300"}).size(), 300U);
}

TEST_F(ReportTest, CompactLeavesAloneWhatLiesOutsideOfItsPlaces) {
  append(many_lines(), kSmallSegments);
  append(many_lines(), kSmallSegments);
  const auto finished = run({"compact", log(), "--from", "seq:1", "--to", "seq:2"});
  ASSERT_TRUE(went_well(finished));
  EXPECT_TRUE(finished.out.starts_with("0 files to 0")) << finished.out;
  EXPECT_EQ(dump_json().size(), 600U);
}

TEST_F(ReportTest, CompactOfAHeldLogIsRefused) {
  RunningTool writer({"append", log(), "--ack", "appended"});
  ASSERT_TRUE(writer.write("a\t1\n"));
  ASSERT_TRUE(writer.read_line());
  EXPECT_TRUE(failed_with(run({"compact", log()}), 3, ""));
  EXPECT_TRUE(went_well(writer.wait()));
}

TEST_F(ReportTest, GcOfAHeldLogIsRefused) {
  RunningTool writer({"append", log(), "--ack", "appended"});
  ASSERT_TRUE(writer.write("a\t1\n"));
  ASSERT_TRUE(writer.read_line());
  EXPECT_TRUE(failed_with(run({"gc", log(), "--before", "seq:0"}), 3, ""));
  EXPECT_TRUE(went_well(writer.wait()));
}

}  // namespace
}  // namespace nori::cli_tests
