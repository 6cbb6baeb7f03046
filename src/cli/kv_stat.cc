#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/try.h"
#include "cli/hold_text.h"
#include "cli/json_text.h"
#include "cli/kv.h"
#include "cli/report.h"
#include "cli/size_text.h"
#include "nori/snapshot.h"

namespace nori::cli {

namespace {

struct KvStatOptions {
  std::filesystem::path directory;
  bool json = false;
};

struct StoreSummary {
  StoreStats stats;
  StoreRecovery opening;
  /// The one it was read from.
  std::optional<SnapshotFile> snapshot;
  std::uint64_t snapshots = 0;
  std::uint64_t snapshot_bytes = 0;
};

Result<StoreSummary> summarize(const std::filesystem::path& directory) {
  auto opened = NORI_TRY(open_store_for_reading(directory));
  StoreSummary summary;
  summary.stats = opened.store.stats();
  summary.opening = std::move(opened.recovery);
  for (auto& file : NORI_TRY(list_snapshots(directory))) {
    ++summary.snapshots;
    summary.snapshot_bytes += file.bytes;
    if (file.sequence == summary.opening.snapshot) {
      summary.snapshot = std::move(file);
    }
  }
  return summary;
}

std::string to_json(const std::string& directory, const StoreSummary& summary) {
  const auto& [stats, opening, snapshot, snapshots, snapshot_bytes] = summary;
  Json json;
  json["directory"] = directory;
  json["keys"] = stats.keys;
  json["key_bytes"] = stats.key_bytes;
  json["value_bytes"] = stats.value_bytes;
  json["memory_bytes"] = stats.memory_bytes;
  json["snapshot"] =
      opening.snapshot
          ? Json({{"sequence", *opening.snapshot}, {"entries", opening.snapshot_entries}})
          : Json(nullptr);
  json["snapshots_passed_over"] = Json::array();
  for (const auto& skipped : opening.skipped_snapshots) {
    json["snapshots_passed_over"].push_back({{"file", skipped.name}, {"reason", skipped.reason}});
  }
  json["records_behind"] = opening.records_replayed;
  json["log_bytes_behind"] = stats.log_bytes_behind;
  json["next_sequence"] = stats.log.next_sequence;
  json["log_bytes"] = stats.log.bytes_on_disk;
  json["snapshot_files"] = snapshots;
  json["snapshot_bytes"] = snapshot_bytes;
  json["opening"] = {{"time_us", opening.time_taken.count()}};
  return json_text(json);
}

std::string to_text(const std::string& directory, const StoreSummary& summary) {
  const auto& [stats, opening, snapshot, snapshots, snapshot_bytes] = summary;
  std::string text;
  const auto line = [&text](std::string_view name, std::string_view value) {
    fmt::format_to(std::back_inserter(text), "{:<14}{}\n", name, value);
  };
  line("store", directory);
  line("keys", fmt::format("{}, of {}", stats.keys, bytes_text(stats.key_bytes)));
  line("values", bytes_text(stats.value_bytes));
  line("memory", fmt::format("{} when it is loaded", bytes_text(stats.memory_bytes)));
  if (opening.snapshot) {
    line("snapshot",
         fmt::format("{} keys, what the records before seq:{} made{}", opening.snapshot_entries,
                     *opening.snapshot,
                     snapshot && snapshot->valid ? "; of " + time_text(snapshot->created) : ""));
  } else {
    line("snapshot", "none");
  }
  for (const auto& skipped : opening.skipped_snapshots) {
    line("passed over", fmt::format("{}: {}", skipped.name, skipped.reason));
  }
  line("log behind it", fmt::format("{} records of {}", opening.records_replayed,
                                    bytes_text(stats.log_bytes_behind)));
  line("on disk",
       fmt::format("{} in {} segments, {} in {} snapshots", bytes_text(stats.log.bytes_on_disk),
                   stats.log.segments, bytes_text(snapshot_bytes), snapshots));
  line("opening",
       fmt::format("{:.3f} s", std::chrono::duration<double>(opening.time_taken).count()));
  return text;
}

int kv_stat(const KvStatOptions& options) {
  const auto summary = summarize(options.directory);
  if (!summary) {
    return report(summary.error());
  }
  const auto directory = options.directory.string();
  return print(options.json ? to_json(directory, *summary) : to_text(directory, *summary),
               kExitDone);
}

}  // namespace

void add_kv_stat(CLI::App& kv, Command& chosen) {
  CLI::App& command = *kv.add_subcommand(
      "stat", "Tell how much a store holds. Loads it; works beside a live writer.");
  const auto options = std::make_shared<KvStatOptions>();
  add_store_directory(command, options->directory);
  command.add_flag("--json", options->json, "print one JSON object");
  command.footer("Example:\n  nori kv stat fruit.store --json | jq .keys");
  on_chosen(command, chosen, options, kv_stat);
}

}  // namespace nori::cli
