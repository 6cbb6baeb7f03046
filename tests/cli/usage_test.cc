// The command line itself: help, and what it refuses.

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/cli/tool.h"

namespace nori::cli_tests {
namespace {

using UsageTest = ToolTest;

const Arguments kCommands = {"append", "dump",    "tail",     "stat",     "verify",
                             "gc",     "compact", "snapshot", "consumer", "kv"};

TEST_F(UsageTest, HelpNamesEveryCommand) {
  const auto finished = run({"--help"});
  EXPECT_TRUE(went_well(finished));
  for (const auto& command : kCommands) {
    EXPECT_TRUE(finished.out.contains(command)) << command;
  }
}

TEST_F(UsageTest, EveryCommandHelpsWithAnExample) {
  for (const auto& command : kCommands) {
    const auto finished = run({command, "--help"});
    EXPECT_TRUE(went_well(finished)) << command;
    EXPECT_TRUE(finished.out.contains("Example")) << command;
    EXPECT_TRUE(finished.out.contains("nori " + command)) << command;
  }
}

TEST_F(UsageTest, EveryKvCommandHelpsWithAnExample) {
  for (const auto* const command :
       {"get", "put", "del", "scan", "load", "dump", "stat", "checkpoint", "compact"}) {
    const auto finished = run({"kv", command, "--help"});
    EXPECT_TRUE(went_well(finished)) << command;
    EXPECT_TRUE(finished.out.contains("Example:\n  nori kv " + std::string(command) + " "))
        << finished.out;
  }
}

TEST_F(UsageTest, TellsItsVersion) {
  const auto finished = run({"--version"});
  EXPECT_TRUE(went_well(finished));
  EXPECT_TRUE(finished.out.starts_with("nori 0.")) << finished.out;
}

TEST_F(UsageTest, ACommandLineThatMakesNoSenseIsRefused) {
  const std::vector<Arguments> command_lines = {
      {},
      {"frobnicate"},
      {"--frobnicate"},
      {"append"},
      {"dump"},
      {"gc", log()},
      {"append", log(), "more"},
      {"append", log(), "--frobnicate"},
      {"append", log(), "--fsync", "never"},
      {"append", log(), "--fsync", "batch=-1"},
      {"append", log(), "--format", "csv"},
      {"append", log(), "--batch", "0"},
      {"append", log(), "--batch"},
      {"append", log(), "--ack", "replicated"},
      {"append", log(), "--segment-bytes", "1K"},
      {"append", log(), "--ring-bytes", "2G"},
      {"append", log(), "--io", "mmap"},
      {"dump", log(), "--from", "4096"},
      {"dump", log(), "--from", "time:yesterday"},
      {"dump", log(), "--limit", "-1"},
      {"dump", log(), "--format", "lines"},
      {"tail", log(), "-n", "x"},
      {"gc", log(), "--before", "time:2026-01-01"},
      {"gc", log(), "--before", "x"},
      {"gc", log(), "--before", "seq:1", "--max-age", "1d"},
      {"gc", log(), "--max-age", "7"},
      {"gc", log(), "--max-bytes", "0"},
      {"compact"},
      {"compact", log(), "--from", "time:2026-01-01"},
      {"consumer"},
      {"consumer", "list"},
      {"consumer", "read", log()},
      {"consumer", "reset", log(), "billing"},
      {"consumer", "commit", log(), "billing", "--to", "time:2026-01-01"},
      {"kv"},
      {"kv", "get", log()},
      {"kv", "put", log(), "key"},
      {"kv", "put", log(), "key", "value", "--expires-in", "7"},
      {"kv", "put", log(), "key", "value", "--expires-at", "tomorrow"},
      {"kv", "put", log(), "key", "value", "--expires-in", "7d", "--expires-at", "2026-01-01"},
      {"kv", "del", log()},
      {"kv", "scan", log(), "--limit", "0"},
      {"kv", "scan", log(), "--keys", "--json"},
      {"kv", "load", log(), "-", "--batch", "0"},
      {"kv", "load", log(), "-", "--format", "lines"},
      {"kv", "dump", log(), "--format", "lines"},
  };
  for (const auto& arguments : command_lines) {
    const auto finished = run(arguments);
    EXPECT_TRUE(failed_with(finished, 2, "--help")) << testing::PrintToString(arguments);
    EXPECT_EQ(finished.out, "");
  }
  EXPECT_FALSE(std::filesystem::exists(log()));
}

}  // namespace
}  // namespace nori::cli_tests
