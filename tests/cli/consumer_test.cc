// nori consumer, and what gc and stat say of consumers.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/cli/tool.h"

namespace nori::cli_tests {
namespace {

using nlohmann::json;

const Arguments kSmallSegments{"--segment-bytes", "64K", "--ring-bytes", "none"};

class ConsumerToolTest : public ToolTest {
 protected:
  Finished consumer(const std::string& command, Arguments arguments = {}) const {
    arguments.insert(arguments.begin(), {"consumer", command, log()});
    return run(arguments);
  }
  // Its only consumer, as `list` tells.
  json listed() const {
    const auto finished = consumer("list", {"--json"});
    EXPECT_TRUE(went_well(finished));
    const auto list = json::parse(finished.out);
    EXPECT_EQ(list.size(), 1U);
    return list.empty() ? json() : list[0];
  }
  // Some MiB of records.
  void append_segments() const {
    std::string lines;
    for (int i = 0; i < 300; ++i) {
      lines += "key\t" + std::string(1000, 'v') + "\n";
    }
    append(lines, kSmallSegments);
  }
};

TEST_F(ConsumerToolTest, ReadsOnFromWhereItCommitted) {
  append(numbered_lines(0, 10));
  EXPECT_EQ(lines_of(consumer("read", {"billing", "-n", "4", "--commit"}).out).size(), 4U);
  EXPECT_EQ(listed()["sequence"], 4);
  EXPECT_EQ(listed()["lag_records"], 6);
  const auto rest = lines_of(consumer("read", {"billing"}).out);
  ASSERT_EQ(rest.size(), 6U);
  EXPECT_EQ(json::parse(rest[0])["sequence"], 4);
  EXPECT_EQ(lines_of(consumer("read", {"billing"}).out).size(), 6U) << "not committed";
}

TEST_F(ConsumerToolTest, CommitsResetsAndDrops) {
  append(numbered_lines(0, 10));
  ASSERT_TRUE(went_well(consumer("read", {"billing", "--from", "end"})));
  EXPECT_EQ(listed()["sequence"], 10);
  ASSERT_TRUE(went_well(consumer("reset", {"billing", "--to", "seq:3"})));
  EXPECT_EQ(listed()["sequence"], 3);
  ASSERT_TRUE(went_well(consumer("commit", {"billing", "--to", "seq:7"})));
  ASSERT_TRUE(went_well(consumer("commit", {"billing", "--to", "seq:5"})));
  EXPECT_EQ(listed()["sequence"], 7) << "never back";
  ASSERT_TRUE(went_well(consumer("reset", {"billing", "--to", "begin"})));
  EXPECT_EQ(listed()["sequence"], 0);
  ASSERT_TRUE(went_well(consumer("drop", {"billing"})));
  EXPECT_EQ(consumer("list").out, "");
}

TEST_F(ConsumerToolTest, RefusesWhatIsNotThereAndTheLibrarysOwn) {
  append(numbered_lines(0, 10));
  EXPECT_TRUE(failed_with(consumer("drop", {"billing"}), 1, "billing"));
  EXPECT_TRUE(failed_with(consumer("commit", {"billing", "--to", "seq:1"}), 1, "billing"));
  EXPECT_TRUE(failed_with(consumer("reset", {"billing", "--to", "seq:1"}), 1, "billing"));
  EXPECT_FALSE(std::filesystem::exists(log() + "/cursors")) << "refusing made something";
  for (const auto* const command : {"commit", "reset"}) {
    EXPECT_TRUE(failed_with(consumer(command, {"nori.store", "--to", "seq:1"}), 2, "nori."));
  }
  EXPECT_TRUE(failed_with(consumer("drop", {"nori.store"}), 2, "nori."));
  EXPECT_TRUE(failed_with(consumer("read", {"nori.store"}), 2, "nori."));
  EXPECT_TRUE(failed_with(consumer("read", {"../billing"}), 2, "cannot name a consumer"));
}

TEST_F(ConsumerToolTest, GcLeavesWhatAConsumerNeedsAndSaysSo) {
  append_segments();
  ASSERT_TRUE(went_well(consumer("read", {"billing", "-n", "1", "--commit"})));
  const auto held = run({"gc", log(), "--max-bytes", "1", "--json"});
  ASSERT_TRUE(went_well(held));
  const auto report = json::parse(held.out);
  EXPECT_EQ(report["segments_deleted"], 0);
  ASSERT_EQ(report["holds"].size(), 1U);
  EXPECT_EQ(report["holds"][0]["name"], "billing");
  EXPECT_GT(report["holds"][0]["bytes"], 65536);
  const auto stat = run({"stat", log(), "--quick"});
  EXPECT_TRUE(stat.out.contains("cursor billing needs what is from seq:1 on")) << stat.out;
  ASSERT_TRUE(went_well(consumer("reset", {"billing", "--to", "end"})));
  const auto planned =
      json::parse(run({"gc", log(), "--max-bytes", "1", "--dry-run", "--json"}).out);
  EXPECT_EQ(dump_json().size(), 300U) << "a dry run deletes nothing";
  const auto done = json::parse(run({"gc", log(), "--max-bytes", "1", "--json"}).out);
  EXPECT_GT(done["segments_deleted"], 1);
  for (const auto* const field : {"segments_deleted", "bytes_freed", "first_sequence"}) {
    EXPECT_EQ(planned[field], done[field]) << field;
  }
  EXPECT_TRUE(planned["dry_run"]);
}

TEST_F(ConsumerToolTest, GcByAgeGoesByTheNewestRecord) {
  append_segments();
  const auto young = run({"gc", log(), "--max-age", "1h", "--json"});
  ASSERT_TRUE(went_well(young));
  EXPECT_EQ(json::parse(young.out)["segments_deleted"], 0);
}

// Goal: a consumer is made and read while another process writes and a third deletes; what it has
// not committed is there, always.
TEST_F(ConsumerToolTest, IsMadeBesideAWriterInAnotherProcess) {
  RunningTool writer({"append", log(), "--ack", "durable"});
  ASSERT_TRUE(writer.write("a\t1\nb\t2\n"));
  ASSERT_TRUE(writer.read_line());
  ASSERT_TRUE(writer.read_line());
  EXPECT_EQ(lines_of(consumer("read", {"one", "-n", "1", "--commit"}).out).size(), 1U);
  EXPECT_EQ(lines_of(consumer("read", {"two"}).out).size(), 2U);
  EXPECT_EQ(lines_of(consumer("read", {"one"}).out).size(), 1U);
  RunningTool reader({"consumer", "read", log(), "two", "--follow"});
  ASSERT_TRUE(reader.read_line());
  EXPECT_TRUE(failed_with(consumer("read", {"two"}), 3, "process"));
  ASSERT_TRUE(writer.write("c\t3\n"));
  ASSERT_TRUE(writer.read_line());
  ASSERT_TRUE(reader.read_line());
  ASSERT_TRUE(reader.read_line()) << "the third record";
  EXPECT_TRUE(went_well(writer.wait()));
}

// Goal: a deletion and a consumer that is made meanwhile, in two processes, come to terms.
// Method: at once, a few times; whoever comes first, the consumer's first record is there.
TEST_F(ConsumerToolTest, GcBesideAConsumerThatIsBeingMade) {
  for (int round = 0; round < 8; ++round) {
    append_segments();
    const auto name = "round-" + std::to_string(round);
    RunningTool gc({"gc", log(), "--max-bytes", "1"});
    RunningTool making({"consumer", "read", log(), name, "-n", "1"});
    ASSERT_TRUE(went_well(gc.wait()));
    const auto made = making.wait();
    ASSERT_TRUE(went_well(made));
    const auto first = dump_json({"--limit", "1"})[0]["sequence"];
    const auto again = consumer("read", {name, "-n", "1"});
    ASSERT_TRUE(went_well(again));
    EXPECT_EQ(again.out, made.out);
    EXPECT_GE(json::parse(again.out)["sequence"], first);
    EXPECT_EQ(listed()["sequence"], json::parse(again.out)["sequence"]);
    ASSERT_TRUE(went_well(consumer("drop", {name})));
  }
}

}  // namespace
}  // namespace nori::cli_tests
