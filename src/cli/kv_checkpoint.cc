// nori kv checkpoint and compact: a snapshot, and what it makes superfluous.

#include <fmt/format.h>

#include <memory>
#include <string>

#include "base/try.h"
#include "cli/json_text.h"
#include "cli/kv.h"
#include "cli/recovery_report.h"
#include "cli/report.h"

namespace nori::cli {

namespace {

struct CheckpointOptions {
  std::filesystem::path directory;
  bool json = false;
};

using Make = Result<CheckpointReport> (Store::*)();

Result<CheckpointReport> make(const std::filesystem::path& directory, Make member) {
  StoreOptions options;
  options.wal.directory = directory;
  options.wal.mode = OpenMode::existing;
  options.wal.ring_bytes = WalOptions::kNoRing;  // nothing is written to the log
  options.checkpoints.garbage_ratio = 0;         // only the one asked for
  auto opened = NORI_TRY(Store::open(std::move(options)));
  report_recovery(directory, opened.recovery.log);
  auto made = NORI_TRY((opened.store.*member)());
  NORI_TRY(opened.store.close());
  return made;
}

std::string to_json(const CheckpointReport& made) {
  return json_text(
      {{"sequence", made.sequence},
       {"entries", made.entries},
       {"bytes", made.bytes},
       {"snapshots_removed", made.snapshots_removed},
       {"segments_deleted", made.segments_deleted},
       {"not_removed", made.not_removed ? Json(made.not_removed->message) : Json(nullptr)}});
}

std::string to_text(const CheckpointReport& made) {
  return fmt::format(
      "a snapshot of {} keys, {} bytes, of what the records before seq:{} made; {} older snapshots "
      "and {} segments went\n",
      made.entries, made.bytes, made.sequence, made.snapshots_removed, made.segments_deleted);
}

int run(const CheckpointOptions& options, Make member) {
  const auto made = make(options.directory, member);
  if (!made) {
    return report(made.error());
  }
  const int exit_code = print(options.json ? to_json(*made) : to_text(*made), kExitDone);
  if (!made->not_removed || exit_code != kExitDone) {
    return exit_code;
  }
  complain(fmt::format("{}; the snapshot is there, and the next one tries again",
                       made->not_removed->message));
  return kExitFailed;
}

int checkpoint(const CheckpointOptions& options) { return run(options, &Store::checkpoint); }
int compact(const CheckpointOptions& options) { return run(options, &Store::compact); }

void add_one(CLI::App& kv, Command& chosen, const char* name, const char* description,
             int (*run)(const CheckpointOptions&)) {
  CLI::App& command = *kv.add_subcommand(name, description);
  const auto options = std::make_shared<CheckpointOptions>();
  add_store_directory(command, options->directory);
  command.add_flag("--json", options->json, "print one JSON object");
  command.footer(fmt::format("Example:\n  nori kv {} fruit.store", name));
  on_chosen(command, chosen, options, run);
}

}  // namespace

void add_kv_checkpoint(CLI::App& kv, Command& chosen) {
  add_one(kv, chosen, "checkpoint",
          "Write a snapshot, so that opening begins there. The log stays. Loads the store.",
          checkpoint);
}

void add_kv_compact(CLI::App& kv, Command& chosen) {
  add_one(kv, chosen, "compact",
          "Write a snapshot, read it back, and remove all that lies before it. Loads the store.",
          compact);
}

}  // namespace nori::cli
