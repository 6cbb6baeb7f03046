// nori kv: what it writes, prints and refuses, alone, beside a writer, and among the log's
// commands.

#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "nori/store.h"
#include "tests/cli/tool.h"

namespace nori::cli_tests {
namespace {

using nlohmann::json;

class KvTest : public ToolTest {
 protected:
  // `nori kv COMMAND LOG arguments...`
  Finished kv(const std::string& command, const Arguments& arguments = {},
              std::string_view input = {}) const {
    Arguments all = {"kv", command, log()};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return run(all, input);
  }
  // Expected to go well; what it prints.
  std::string kv_out(const std::string& command, const Arguments& arguments = {},
                     std::string_view input = {}) const {
    const auto finished = kv(command, arguments, input);
    EXPECT_TRUE(went_well(finished)) << command;
    return finished.out;
  }
  json kv_json(const std::string& command) const {
    return json::parse(kv_out(command, {"--json"}));
  }
  void load_tsv(std::string_view lines, const Arguments& more = {}) const {
    Arguments arguments = {"-", "--format", "tsv"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    kv_out("load", arguments, lines);
  }
  std::string file(std::string_view name, std::string_view contents) const {
    std::ofstream(path(name), std::ios::binary) << contents;
    return path(name);
  }
};

std::set<std::string> names_in(const json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : object.items()) {
    names.insert(name);
  }
  return names;
}

// --- get, put, del

TEST_F(KvTest, GetPrintsWhatWasPut) {
  EXPECT_EQ(kv_out("put", {"apple", "red"}), "");
  EXPECT_EQ(kv_out("get", {"apple"}), "red\n");
  kv_out("put", {"apple", "green"});
  EXPECT_EQ(kv_out("get", {"apple"}), "green\n");
  kv_out("put", {"", ""});
  EXPECT_EQ(kv_out("get", {""}), "\n");
  kv_out("put", {"--", "--key", "-v"});
  EXPECT_EQ(kv_out("get", {"--", "--key"}), "-v\n");
}

TEST_F(KvTest, GetEndsWithOneWhereThereIsNoKey) {
  kv_out("put", {"apple", "red"});
  kv_out("del", {"apple"});
  for (const auto* const key : {"apple", "pear"}) {
    const auto finished = kv("get", {key});
    EXPECT_TRUE(failed_with(finished, 1, key));
    EXPECT_EQ(finished.out, "");
  }
  EXPECT_TRUE(failed_with(kv("get", {"two\nlines"}), 1, "two\\nlines"));
  EXPECT_TRUE(went_well(kv("del", {"pear"}))) << "it makes no difference";
}

TEST_F(KvTest, AKeyIsGoneOnceItExpires) {
  kv_out("put", {"past", "1", "--expires-at", "2020-01-31"});
  kv_out("put", {"future", "2", "--expires-at", "2260-01-31T12:00:00Z"});
  kv_out("put", {"soon", "3", "--expires-in", "12h"});
  EXPECT_EQ(kv("get", {"past"}).exit_code, 1);
  EXPECT_EQ(kv_out("get", {"future"}), "2\n");
  EXPECT_EQ(kv_out("scan", {"--keys"}), "future\nsoon\n");
  const auto lines = lines_of(kv_out("dump"));
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(json::parse(lines[0])["expires_at_ms"], 9'154'123'200'000);
  const auto left_ms = json::parse(lines[1])["expires_at_ms"].get<std::int64_t>() -
                       std::chrono::duration_cast<std::chrono::milliseconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
  EXPECT_GT(left_ms, 11 * 3'600'000);
  EXPECT_LE(left_ms, 12 * 3'600'000);
  EXPECT_TRUE(failed_with(kv("put", {"a", "b", "--expires-in", "99999999d"}), 2, "2261"));
}

// Goal: get and put do not load the store.
// Method: a block of its one snapshot is bad: loading answers `damaged`, keys elsewhere are read
// and written.
TEST_F(KvTest, GetAndPutDoNotLoadTheStore) {
  std::string lines;
  for (int i = 100'000; i < 104'000; ++i) {
    lines += std::to_string(i) + "\tvalue " + std::to_string(i * 7919LL) + "\n";
  }
  load_tsv(lines);
  kv_out("compact");
  const auto snapshots = std::filesystem::directory_iterator(log() + "/snapshots");
  const auto snapshot = snapshots->path().string();
  damage_at(snapshot, 500);
  EXPECT_EQ(kv("scan").exit_code, 1);
  EXPECT_EQ(kv_out("get", {"103999"}), "value " + std::to_string(103'999 * 7919LL) + "\n");
  kv_out("put", {"103999", "new"});
  EXPECT_EQ(kv_out("get", {"103999"}), "new\n");
  EXPECT_TRUE(failed_with(kv("get", {"100000"}), 1, "begins at record 4000"));
}

// --- scan

TEST_F(KvTest, ScanPrintsAPartOfTheKeysInOrder) {
  load_tsv("b\t2\nab\t1\\n1\na\t0\nc\t3\nba\t4\n");
  EXPECT_EQ(kv_out("scan"), "a\t0\nab\t1\\n1\nb\t2\nba\t4\nc\t3\n");
  EXPECT_EQ(kv_out("scan", {"--keys", "--prefix", "b"}), "b\nba\n");
  EXPECT_EQ(kv_out("scan", {"--keys", "--from", "ab", "--to", "c"}), "ab\nb\nba\n");
  EXPECT_EQ(kv_out("scan", {"--keys", "--reverse", "--limit", "2"}), "c\nba\n");
  EXPECT_EQ(kv_out("scan", {"--prefix", "x"}), "");
  const auto entry = json::parse(kv_out("scan", {"--json", "--from", "c"}));
  EXPECT_EQ(names_in(entry), (std::set<std::string>{"op", "key", "value", "epoch", "sequence"}));
  EXPECT_EQ(entry["sequence"], 3);
  EXPECT_EQ(names_in(entry["epoch"]), (std::set<std::string>{"number", "random"}));
}

// --- load and dump

TEST_F(KvTest, LoadPutsAndDeletes) {
  kv_out("put", {"pear", "green"});
  const auto out = kv_out("load", {file("fruit.tsv", "apple\tred\npear\nplum\tb\\tlue\n")});
  EXPECT_TRUE(out.starts_with("2 put, 1 deleted, in ")) << out;
  EXPECT_EQ(kv_out("scan"), "apple\tred\nplum\tb\\tlue\n");
}

TEST_F(KvTest, LoadGoesByTheFilesEnding) {
  kv_out("load", {file("one", R"({"op":"put","key":"a","value":"1"})")});
  kv_out("load", {file("two.jsonl", R"({"op":"put","key":"b","value":"2"})")});
  kv_out("load", {file("three.tsv", "c\t3")});
  kv_out("load", {file("four.tsv", R"({"op":"delete","key":"a"})"), "--format", "jsonl"});
  kv_out("load", {}, R"({"op":"put","key":"d","value":"4"})");
  EXPECT_EQ(kv_out("scan"), "b\t2\nc\t3\nd\t4\n");
}

// Goal: what is dumped and loaded is the same store.
// Method: keys and values of all kinds of bytes, some that expire; compared as dumped again.
TEST_F(KvTest, DumpAndLoadGiveTheSameStore) {
  std::string lines;
  for (int i = 0; i < 256; ++i) {
    const auto byte = static_cast<char>(i);
    const std::string text = byte == '\t'   ? "\\t"
                             : byte == '\n' ? "\\n"
                             : byte == '\\' ? "\\\\"
                                            : std::string(1, byte);
    lines += "key " + text + "\t" + text + text + "\n";
  }
  load_tsv(lines + "\tof the empty key\nempty\t\n");
  kv_out("put", {"expires", "1", "--expires-in", "7d"});
  kv_out("checkpoint");
  kv_out("put", {"after", "the checkpoint"});
  const auto dumped = kv_out("dump");
  EXPECT_EQ(lines_of(dumped).size(), 260U);
  const auto copy = path("copy");
  EXPECT_TRUE(run({"kv", "load", copy}, dumped).out.starts_with("260 put, 0 deleted"));
  EXPECT_EQ(run({"kv", "dump", copy}).out, dumped);

  const auto tsv = kv("dump", {"--format", "tsv"});
  EXPECT_TRUE(failed_with(tsv, 0, "1 of these do; use --format jsonl"));
  const auto tsv_copy = path("tsv copy");
  EXPECT_TRUE(went_well(run({"kv", "load", tsv_copy, "--format", "tsv", "-"}, tsv.out)));
  EXPECT_EQ(run({"kv", "scan", tsv_copy}).out, kv_out("scan"));
}

TEST_F(KvTest, ABadLineIsNamedAndNothingBehindItIsLoaded) {
  const auto bad = file("bad.tsv", "a\t1\nb\t2\nc\t3\t\nd\t4\n");
  auto finished = kv("load", {bad});
  EXPECT_TRUE(failed_with(finished, 3, bad + ", line 3: a second tab"));
  EXPECT_TRUE(finished.err.contains("lines 1 to 2 are loaded")) << finished.err;
  EXPECT_EQ(finished.out, "");
  EXPECT_EQ(kv_out("scan", {"--keys"}), "a\nb\n");

  finished = kv("load", {"-"}, "not json\n");
  EXPECT_TRUE(failed_with(finished, 3, "standard input, line 1: not JSON"));
  EXPECT_TRUE(finished.err.contains("--format tsv; nothing was loaded")) << finished.err;
}

TEST_F(KvTest, ABatchIsLoadedWholeOrNotAtAll) {
  const auto finished =
      kv("load", {"-", "--format", "tsv", "--batch", "2"}, "a\t1\nb\t2\nc\t3\n\\x\n");
  EXPECT_TRUE(failed_with(finished, 3, "lines 1 to 2 are loaded"));
  EXPECT_EQ(kv_out("scan", {"--keys"}), "a\nb\n");
  const auto batches = dump_json();
  ASSERT_EQ(batches.size(), 2U);
  EXPECT_EQ(batches[0]["ends_batch"], false);
  EXPECT_EQ(batches[1]["ends_batch"], true);
}

TEST_F(KvTest, LoadTakesMoreThanOneAppend) {
  const auto lines = numbered_lines(0, 2500) + "large\t" + std::string(3'000'000, 'v') + "\n" +
                     numbered_lines(0, 100);
  EXPECT_TRUE(kv_out("load", {"-", "--format", "tsv"}, lines).starts_with("2601 put, 0 deleted"));
  EXPECT_EQ(kv_json("stat")["keys"], 2501);
  EXPECT_EQ(kv_out("get", {"large"}).size(), 3'000'001U);
}

TEST_F(KvTest, WhatWasReadIsLoadedWhenASignalComes) {
  RunningTool tool({"kv", "load", log(), "-", "--format", "tsv"});
  ASSERT_TRUE(tool.write("a\t1\nb\t2\nc"));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  while (!std::filesystem::exists(log() + "/000000.wal")) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds{300});
  tool.kill(SIGINT);
  EXPECT_TRUE(ended_quietly_by(tool.wait(), SIGINT));
  EXPECT_EQ(kv_out("scan"), "a\t1\nb\t2\n");
}

TEST_F(KvTest, WithoutItsFileNothingIsMade) {
  EXPECT_TRUE(failed_with(kv("load", {path("nothing.tsv")}), 3, "nothing.tsv: No such file"));
  EXPECT_FALSE(std::filesystem::exists(log()));
}

// --- stat, checkpoint, compact

TEST_F(KvTest, StatPrintsTheDocumentedFields) {
  load_tsv("a\t1\nbb\t22\na\t11\n");
  const auto before = everything_in(log());
  auto stat = kv_json("stat");
  EXPECT_EQ(names_in(stat),
            (std::set<std::string>{"directory", "keys", "key_bytes", "value_bytes", "memory_bytes",
                                   "snapshot", "snapshots_passed_over", "records_behind",
                                   "log_bytes_behind", "next_sequence", "log_bytes",
                                   "snapshot_files", "snapshot_bytes", "opening"}));
  EXPECT_EQ(stat["keys"], 2);
  EXPECT_EQ(stat["key_bytes"], 3);
  EXPECT_EQ(stat["value_bytes"], 4);
  EXPECT_EQ(stat["snapshot"], json());
  EXPECT_EQ(stat["records_behind"], 3);
  EXPECT_EQ(everything_in(log()), before);
  kv_out("checkpoint");
  kv_out("put", {"c", "3"});
  stat = kv_json("stat");
  EXPECT_EQ(stat["snapshot"], (json{{"sequence", 3}, {"entries", 2}}));
  EXPECT_EQ(stat["records_behind"], 1);
  EXPECT_EQ(stat["snapshot_files"], 1);
  const auto text = kv_out("stat");
  EXPECT_TRUE(text.contains("keys          3, of 4 bytes\n")) << text;
  EXPECT_TRUE(text.contains("snapshot      2 keys, what the records before seq:3 made")) << text;
}

TEST_F(KvTest, StatNamesASnapshotThatWasPassedOver) {
  load_tsv("a\t1\n");
  kv_out("checkpoint");
  damage_at(log() + "/snapshots/00000000000000000001.snapshot", 0);
  EXPECT_EQ(kv_out("get", {"a"}), "1\n");
  const auto stat = kv_json("stat");
  EXPECT_EQ(stat["snapshot"], json());
  ASSERT_EQ(stat["snapshots_passed_over"].size(), 1U);
  EXPECT_EQ(stat["snapshots_passed_over"][0]["file"], "00000000000000000001.snapshot");
  EXPECT_TRUE(kv_out("stat").contains("passed over   00000000000000000001.snapshot: "));
}

TEST_F(KvTest, ACheckpointLeavesTheLogAndCompactDoesNot) {
  load_tsv(numbered_lines(0, 100));
  load_tsv(numbered_lines(50, 150));
  auto report = kv_json("checkpoint");
  EXPECT_EQ(names_in(report), (std::set<std::string>{"sequence", "entries", "bytes", "not_removed",
                                                     "snapshots_removed", "segments_deleted"}));
  EXPECT_EQ(report["sequence"], 200);
  EXPECT_EQ(report["entries"], 150);
  EXPECT_EQ(report["not_removed"], json());
  EXPECT_EQ(dump_json().size(), 200U);
  const auto before = kv_out("dump");
  const auto text = kv_out("compact");
  EXPECT_TRUE(text.starts_with("a snapshot of 150 keys, ")) << text;
  EXPECT_EQ(dump_json().size(), 0U);
  EXPECT_EQ(kv_out("dump"), before);
  EXPECT_EQ(kv_json("compact")["entries"], 150);
}

// --- beside others

// Goal: what reads works while another process writes, and sees what that has written.
TEST_F(KvTest, ReadsBesideALiveWriter) {
  StoreOptions options;
  options.wal.directory = log();
  auto opened = Store::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  auto& store = opened->store;
  ASSERT_TRUE(store.put("a", "1"));
  EXPECT_EQ(kv_out("get", {"a"}), "1\n");
  ASSERT_TRUE(store.checkpoint());
  ASSERT_TRUE(store.put("b", "2"));
  EXPECT_EQ(kv_out("get", {"a"}), "1\n");
  EXPECT_EQ(kv_out("get", {"b"}), "2\n");
  EXPECT_EQ(kv_out("scan"), "a\t1\nb\t2\n");
  EXPECT_EQ(lines_of(kv_out("dump")).size(), 2U);
  EXPECT_EQ(kv_json("stat")["keys"], 2);
  for (const auto* const command : {"checkpoint", "compact"}) {
    EXPECT_TRUE(failed_with(kv(command), 3, "process")) << command;
  }
  EXPECT_TRUE(failed_with(kv("put", {"c", "3"}), 3, "process"));
  EXPECT_TRUE(failed_with(kv("del", {"a"}), 3, "process"));
  EXPECT_TRUE(failed_with(kv("load", {}, "{}"), 3, "process"));
  ASSERT_TRUE(store.close());
}

TEST_F(KvTest, EveryLogCommandWorksOnAStore) {
  load_tsv(numbered_lines(0, 100));
  kv_out("checkpoint");
  append("key-5\tappended\n");
  EXPECT_EQ(kv_out("get", {"key-5"}), "appended\n");
  EXPECT_EQ(lines_of(dump_tsv()).size(), 101U);
  EXPECT_EQ(lines_of(run({"tail", log(), "-n", "3"}).out).size(), 3U);
  EXPECT_EQ(json::parse(run({"verify", log(), "--json"}).out)["foreign_files"], json::array());
  EXPECT_EQ(json::parse(run({"stat", log(), "--json"}).out)["records"], 101);
  const auto cursors = json::parse(run({"consumer", "list", log(), "--json"}).out);
  ASSERT_EQ(cursors.size(), 1U);
  EXPECT_EQ(cursors[0]["name"], "nori.store");
  EXPECT_EQ(cursors[0]["sequence"], 100);
  EXPECT_TRUE(went_well(run({"snapshot", "verify", log()})));
  EXPECT_TRUE(failed_with(run({"consumer", "drop", log(), "nori.store"}), 2, "nori."));
  EXPECT_TRUE(went_well(run({"compact", log()})));
  EXPECT_TRUE(went_well(run({"gc", log(), "--max-bytes", "1"})));
  EXPECT_EQ(kv_json("stat")["keys"], 100);
}

// What it needs, gc leaves: also of a store that no program has opened yet.
TEST_F(KvTest, GcLeavesWhatAStoreNeeds) {
  std::string lines;
  for (int i = 0; i < 300; ++i) {
    lines += "key-" + std::to_string(i) + "\t" + std::string(1000, 'v') + "\n";
  }
  append(lines, {"--segment-bytes", "64K", "--ring-bytes", "none"});
  kv_out("put", {"one", "more"});
  auto gc = json::parse(run({"gc", log(), "--max-bytes", "1", "--json"}).out);
  EXPECT_EQ(gc["segments_deleted"], 0);
  EXPECT_EQ(kv_json("stat")["keys"], 301);
  kv_out("checkpoint");
  gc = json::parse(run({"gc", log(), "--max-bytes", "1", "--json"}).out);
  EXPECT_GT(gc["segments_deleted"], 1);
  EXPECT_EQ(kv_json("stat")["keys"], 301);
}

TEST_F(KvTest, ALogIsAStore) {
  append("a\t1\nb\t2\na\n");
  EXPECT_EQ(kv_out("scan"), "b\t2\n");
  EXPECT_EQ(kv_out("get", {"b"}), "2\n");
  EXPECT_EQ(kv("get", {"a"}).exit_code, 1);
}

TEST_F(KvTest, WhereThereIsNoStoreReadingMakesNone) {
  for (const auto& arguments : std::vector<Arguments>{
           {"get", "a"}, {"del", "a"}, {"scan"}, {"dump"}, {"stat"}, {"checkpoint"}, {"compact"}}) {
    EXPECT_TRUE(
        failed_with(kv(arguments[0], Arguments(arguments.begin() + 1, arguments.end())), 1, log()))
        << arguments[0];
  }
  EXPECT_FALSE(std::filesystem::exists(log()));
}

}  // namespace
}  // namespace nori::cli_tests
