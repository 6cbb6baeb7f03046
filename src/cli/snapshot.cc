#include "nori/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/json_text.h"
#include "cli/report.h"

namespace nori::cli {

namespace {

struct SnapshotCommandOptions {
  std::filesystem::path directory;
  bool json = false;
};

using SnapshotFiles = std::vector<SnapshotFile>;

std::int64_t ms_since_1970(TimePoint time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

std::string hex(const std::array<std::byte, 16>& bytes) {
  std::string text;
  for (const auto byte : bytes) {
    fmt::format_to(std::back_inserter(text), "{:02x}", std::to_integer<unsigned>(byte));
  }
  return text;
}

std::string to_json(const SnapshotFiles& files) {
  Json json;
  json["snapshots"] = Json::array();
  for (const auto& file : files) {
    Json one = {{"file", file.name},
                {"sequence", file.sequence},
                {"bytes", file.bytes},
                {"valid", file.valid}};
    if (file.valid) {
      one["epoch"] = {{"number", file.epoch.number()}, {"random", file.epoch.random()}};
      one["created_ms"] = ms_since_1970(file.created);
      one["entries"] = file.entries;
      one["plain_bytes"] = file.plain_bytes;
    } else {
      one["reason"] = file.reason;
    }
    one["log_id"] = file.log_id ? Json(hex(*file.log_id)) : Json();
    json["snapshots"].push_back(std::move(one));
  }
  return json_text(json);
}

// The last line says `checked` of how much.
std::string to_text(const SnapshotFiles& files, std::string_view checked) {
  std::string text;
  const auto to = std::back_inserter(text);
  for (const auto& file : files) {
    if (file.valid) {
      fmt::format_to(to, "{}  {} entries  {} bytes, {} plain  epoch {}\n", file.name, file.entries,
                     file.bytes, file.plain_bytes, file.epoch.number());
    } else {
      fmt::format_to(to, "{}  bad: {}\n", file.name, file.reason);
    }
  }
  fmt::format_to(to, "{} snapshots, {} bad; {}\n", files.size(),
                 std::ranges::count(files, false, &SnapshotFile::valid), checked);
  return text;
}

int list(const SnapshotCommandOptions& options) {
  const auto files = list_snapshots(options.directory);
  if (!files) {
    return report(files.error());
  }
  return print(options.json ? to_json(*files) : to_text(*files, "headers and footers were read"),
               kExitDone);
}

int verify_all(const SnapshotCommandOptions& options) {
  const auto files = verify_snapshots(options.directory);
  if (!files) {
    return report(files.error());
  }
  return print(options.json ? to_json(*files) : to_text(*files, "every byte was read"),
               std::ranges::all_of(*files, &SnapshotFile::valid) ? kExitDone : kExitNotThere);
}

void add_one(CLI::App& snapshot, Command& chosen, const char* name, const char* description,
             int (*run)(const SnapshotCommandOptions&)) {
  CLI::App& command = *snapshot.add_subcommand(name, description);
  const auto options = std::make_shared<SnapshotCommandOptions>();
  add_directory(command, options->directory);
  command.add_flag("--json", options->json, "print one JSON object");
  command.footer(fmt::format("Example:\n  nori snapshot {} fruit.store", name));
  on_chosen(command, chosen, options, run);
}

}  // namespace

void add_snapshot(CLI::App& tool, Command& chosen) {
  CLI::App& snapshot = *tool.add_subcommand(
      "snapshot", "List or check a log's snapshots. Changes nothing; works beside a live writer.");
  snapshot.require_subcommand(1);
  snapshot.footer("Example:\n  nori snapshot list fruit.store");
  add_one(snapshot, chosen, "list", "Print each snapshot, by its header and footer.", list);
  add_one(snapshot, chosen, "verify", "Read and check every byte of every snapshot.", verify_all);
}

}  // namespace nori::cli
