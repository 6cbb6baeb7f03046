// nori snapshot list and verify: what they report, and the documented JSON fields.

#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "nori/snapshot.h"
#include "nori/wal.h"
#include "tests/cli/tool.h"

namespace nori::cli_tests {
namespace {

using nlohmann::json;

class SnapshotToolTest : public ToolTest {
 protected:
  // A log, and snapshots of it at its first and at its third record, of one entry each.
  void make() const {
    append(numbered_lines(0, 3));
    WalOptions options;
    options.directory = log();
    auto opened = Wal::open(options);
    ASSERT_TRUE(opened) << opened.error().message;
    for (const Sequence sequence : {1, 3}) {
      auto writer = SnapshotWriter::begin(opened->wal, Position{.sequence = sequence});
      ASSERT_TRUE(writer) << writer.error().message;
      ASSERT_TRUE(writer->add({.key = "key-0", .value = "value-0"}));
      ASSERT_TRUE(writer->finish());
    }
  }
  [[nodiscard]] std::string file(int sequence) const {
    return log() + "/snapshots/0000000000000000000" + std::to_string(sequence) + ".snapshot";
  }
};

std::set<std::string> names_in(const json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : object.items()) {
    names.insert(name);
  }
  return names;
}

TEST_F(SnapshotToolTest, ListPrintsTheDocumentedFields) {
  make();
  const auto before = everything_in(log());
  const auto finished = run({"snapshot", "list", log(), "--json"});
  ASSERT_TRUE(went_well(finished));
  const json report = json::parse(finished.out);
  EXPECT_EQ(names_in(report), std::set<std::string>{"snapshots"});
  ASSERT_EQ(report["snapshots"].size(), 2U);
  const json& newest = report["snapshots"][1];
  EXPECT_EQ(names_in(newest),
            (std::set<std::string>{"file", "sequence", "bytes", "valid", "epoch", "created_ms",
                                   "entries", "plain_bytes", "log_id"}));
  EXPECT_EQ(newest["file"], "00000000000000000003.snapshot");
  EXPECT_EQ(newest["sequence"], 3);
  EXPECT_EQ(newest["bytes"], std::filesystem::file_size(file(3)));
  EXPECT_EQ(newest["valid"], true);
  EXPECT_EQ(newest["epoch"]["number"], 1);
  EXPECT_EQ(names_in(newest["epoch"]), (std::set<std::string>{"number", "random"}));
  EXPECT_EQ(newest["entries"], 1);
  EXPECT_GT(newest["plain_bytes"], 12);
  EXPECT_EQ(newest["log_id"].get<std::string>().size(), 32U);
  EXPECT_EQ(everything_in(log()), before);
}

TEST_F(SnapshotToolTest, VerifyReadsWhatListDoesNot) {
  make();
  EXPECT_TRUE(went_well(run({"snapshot", "verify", log()})));
  damage(file(3), "value-0");
  EXPECT_TRUE(went_well(run({"snapshot", "list", log()})));
  const auto finished = run({"snapshot", "verify", log(), "--json"});
  EXPECT_EQ(finished.exit_code, 1);
  EXPECT_EQ(finished.err, "");
  const json report = json::parse(finished.out);
  EXPECT_EQ(report["snapshots"][0]["valid"], true);
  EXPECT_EQ(report["snapshots"][1]["valid"], false);
  EXPECT_EQ(names_in(report["snapshots"][1]),
            (std::set<std::string>{"file", "sequence", "bytes", "valid", "reason", "log_id"}));
  const auto text = run({"snapshot", "verify", log()});
  EXPECT_EQ(text.exit_code, 1);
  EXPECT_TRUE(text.out.contains("00000000000000000003.snapshot  bad: ")) << text.out;
  EXPECT_TRUE(text.out.contains("2 snapshots, 1 bad")) << text.out;
}

TEST_F(SnapshotToolTest, ListNamesABadHeader) {
  make();
  damage_at(file(1), 40);
  const auto finished = run({"snapshot", "list", log(), "--json"});
  EXPECT_TRUE(went_well(finished));
  EXPECT_EQ(json::parse(finished.out)["snapshots"][0]["log_id"], json());
  EXPECT_TRUE(run({"snapshot", "list", log()}).out.contains("header is damaged"));
}

TEST_F(SnapshotToolTest, ThereMayBeNone) {
  append(numbered_lines(0, 3));
  for (const char* const command : {"list", "verify"}) {
    const auto finished = run({"snapshot", command, log()});
    EXPECT_TRUE(went_well(finished));
    EXPECT_TRUE(finished.out.starts_with("0 snapshots")) << finished.out;
    EXPECT_TRUE(failed_with(run({"snapshot", command, path("nothing")}), 1, "nothing"));
  }
  EXPECT_TRUE(failed_with(run({"snapshot"}), 2, "snapshot"));
}

TEST_F(SnapshotToolTest, TheyAreTheLogsOwn) {
  make();
  const auto finished = run({"verify", log(), "--json"});
  EXPECT_TRUE(went_well(finished));
  EXPECT_EQ(json::parse(finished.out)["foreign_files"], json::array());
}

}  // namespace
}  // namespace nori::cli_tests
