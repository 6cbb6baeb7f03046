#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "base/try.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/json_text.h"
#include "cli/open_log.h"
#include "cli/place.h"
#include "cli/report.h"
#include "nori/wal.h"

namespace nori::cli {

namespace {

struct CompactOptions {
  std::filesystem::path directory;
  std::optional<ReadFrom> from;
  std::optional<ReadFrom> to;
  bool keep_all = false;
  bool dry_run = false;
  bool json = false;
};

Result<std::optional<Position>> find_position(const Wal& wal,
                                              const std::optional<ReadFrom>& place) {
  if (!place) {
    return std::nullopt;
  }
  if (const auto* const sequence = std::get_if<Sequence>(&*place)) {
    return Position{.sequence = *sequence};
  }
  return NORI_TRY(wal.read_from(*place)).position();
}

Result<CompactionReport> compact_log(const CompactOptions& options) {
  Opened opened = NORI_TRY(open_for_deletion(options.directory));
  CompactionOptions compaction;
  compaction.keep =
      options.keep_all ? CompactionOptions::Keep::all : CompactionOptions::Keep::newest_of_each_key;
  compaction.from = NORI_TRY(find_position(opened.wal, options.from));
  compaction.to = NORI_TRY(find_position(opened.wal, options.to));
  compaction.dry_run = options.dry_run;
  auto report = NORI_TRY(opened.wal.compact(compaction));
  NORI_TRY(opened.wal.close());
  return report;
}

int compact(const CompactOptions& options) {
  const auto report = compact_log(options);
  if (!report) {
    return nori::cli::report(report.error());
  }
  if (options.json) {
    return print(json_text({{"dry_run", options.dry_run},
                            {"files_before", report->files_before},
                            {"files_after", report->files_after},
                            {"bytes_before", report->bytes_before},
                            {"bytes_after", report->bytes_after},
                            {"records_before", report->records_before},
                            {"records_after", report->records_after},
                            {"tombstones_dropped", report->tombstones_dropped},
                            {"files", report->files}}),
                 kExitDone);
  }
  return print(
      fmt::format("{}{} files to {}, {} records to {}, {} bytes to {}: {} bytes freed\n",
                  options.dry_run ? "would make " : "", report->files_before, report->files_after,
                  report->records_before, report->records_after, report->bytes_before,
                  report->bytes_after, report->bytes_before - report->bytes_after),
      kExitDone);
}

}  // namespace

void add_compact(CLI::App& tool, Command& chosen) {
  CLI::App& command = *tool.add_subcommand(
      "compact",
      "Rewrite old segments to the newest record of each key, never the newest segment.");
  const auto options = std::make_shared<CompactOptions>();
  add_directory(command, options->directory);
  add_parsed_option(command, "--from", options->from, parse_exact_place, "SEG:OFF|seq:N",
                    "leave segments alone that begin before it");
  add_parsed_option(command, "--to", options->to, parse_exact_place, "SEG:OFF|seq:N",
                    "leave segments alone that hold it or what lies behind it");
  command.add_flag("--keep-all", options->keep_all, "keep all records: only padding goes");
  command.add_flag("--dry-run", options->dry_run, "change nothing, and say what would be saved");
  command.add_flag("--json", options->json, "print one JSON object");
  command.footer("Example:\n  nori compact fruit.log --dry-run");
  on_chosen(command, chosen, options, compact);
}

}  // namespace nori::cli
