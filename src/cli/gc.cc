#include <fmt/format.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <variant>
#include <vector>

#include "base/make_error.h"
#include "base/try.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/hold_text.h"
#include "cli/json_text.h"
#include "cli/open_log.h"
#include "cli/place.h"
#include "cli/report.h"
#include "nori/wal.h"

namespace nori::cli {

namespace {

// 0 would be no limit.
Parsed<std::uint64_t> parse_bytes_limit(std::string_view text) {
  auto bytes = parse_bytes(text);
  if (bytes && *bytes == 0) {
    return std::unexpected("0 is no limit: the newest segment always stays, write 1");
  }
  return bytes;
}

struct GcOptions {
  std::filesystem::path directory;
  std::optional<ReadFrom> before;
  RetentionPolicy policy;
  bool dry_run = false;
  bool json = false;
};

struct Deleted {
  std::uint64_t segments = 0;
  std::uint64_t bytes = 0;
  Sequence first_sequence = 0;  // left
  std::vector<Hold> holds;
};

// The sizes of the segments' files, by name: all that end in .wal are segments (docs/format.md).
std::map<std::string, std::uint64_t> segment_sizes(const std::filesystem::path& directory) {
  std::map<std::string, std::uint64_t> sizes;
  std::error_code error;  // what cannot be listed is not counted
  for (std::filesystem::directory_iterator file(directory, error), end; !error && file != end;
       file.increment(error)) {
    std::error_code size_error;
    const std::uint64_t bytes = file->file_size(size_error);
    if (file->path().extension() == ".wal" && !size_error) {
      sizes.emplace(file->path().filename().string(), bytes);
    }
  }
  return sizes;
}

Result<Position> find_position(const Wal& wal, const ReadFrom& place) {
  if (const auto* const sequence = std::get_if<Sequence>(&place)) {
    const Sequence end = wal.current_position().sequence;
    if (*sequence > end) {
      return make_error(ErrorCode::gone,
                        "seq:{}: beyond the end of the log; name a place up to seq:{}", *sequence,
                        end);
    }
    return Position{.sequence = *sequence};
  }
  const Reader reader = NORI_TRY(wal.read_from(place));
  return reader.position();
}

// Segments that are there before and not after.
Result<Deleted> delete_segments(const GcOptions& options) {
  Opened opened = NORI_TRY(open_for_deletion(options.directory));
  auto& wal = opened.wal;
  Deleted deleted;
  const auto sizes_before = segment_sizes(options.directory);
  if (options.before) {
    const Position before = NORI_TRY(find_position(wal, *options.before));
    deleted.segments = NORI_TRY(wal.delete_segments_before(before));
  } else {
    deleted.segments = NORI_TRY(wal.apply_retention(options.policy));
  }
  const auto sizes_after = segment_sizes(options.directory);
  for (const auto& [name, bytes] : sizes_before) {
    deleted.bytes += sizes_after.contains(name) ? 0 : bytes;
  }
  const auto stats = wal.stats();
  deleted.first_sequence = stats.first_sequence;
  deleted.holds = stats.holds;
  NORI_TRY(wal.close());
  return deleted;
}

// What that would do; changes nothing.
Result<Deleted> plan_deletion(const GcOptions& options) {
  const Opened opened = NORI_TRY(open_for_reading(options.directory));
  const auto& wal = opened.wal;
  const auto planned = NORI_TRY([&]() -> Result<Wal::Deletable> {
    if (!options.before) {
      return wal.deletable_by(options.policy);
    }
    const auto before = find_position(wal, *options.before);
    return before ? wal.deletable_before(*before) : std::unexpected(before.error());
  }());
  Deleted deleted{.segments = planned.segments,
                  .bytes = planned.bytes,
                  .first_sequence = planned.first_sequence,
                  .holds = wal.stats().holds};
  return deleted;
}

std::string to_text(const Deleted& deleted, bool dry_run) {
  std::string text =
      fmt::format("{} segments {}deleted, {} bytes {}; the first record left {} seq:{}\n",
                  deleted.segments, dry_run ? "would be " : "", deleted.bytes,
                  dry_run ? "less" : "freed", dry_run ? "would be" : "is", deleted.first_sequence);
  for (const auto& hold : deleted.holds) {
    text += hold_text(hold) + "\n";
  }
  return text;
}

int gc(const GcOptions& options) {
  const auto deleted = options.dry_run ? plan_deletion(options) : delete_segments(options);
  if (!deleted) {
    return report(deleted.error());
  }
  return print(options.json ? json_text({{"dry_run", options.dry_run},
                                         {"segments_deleted", deleted->segments},
                                         {"bytes_freed", deleted->bytes},
                                         {"first_sequence", deleted->first_sequence},
                                         {"holds", holds_json(deleted->holds)}})
                            : to_text(*deleted, options.dry_run),
               kExitDone);
}

}  // namespace

void add_gc(CLI::App& tool, Command& chosen) {
  CLI::App& command = *tool.add_subcommand(
      "gc",
      "Delete old segments, oldest first: never the newest one, nor what a consumer still needs.");
  const auto options = std::make_shared<GcOptions>();
  add_directory(command, options->directory);
  auto& which = *command.add_option_group("which");
  auto* const before =
      add_parsed_option(which, "--before", options->before, parse_exact_place, "SEG:OFF|seq:N",
                        "what lies before it is not needed any more");
  add_parsed_option(which, "--max-age", options->policy.max_age, parse_duration, "7d|12h|...",
                    "segments whose last record is that much older than the newest one")
      ->excludes(before);
  add_parsed_option(which, "--max-bytes", options->policy.max_bytes, parse_bytes_limit, "BYTES",
                    "segments until the rest takes no more")
      ->excludes(before);
  which.require_option(1, 2);
  command.add_flag("--dry-run", options->dry_run, "only tell what would be deleted");
  command.add_flag("--json", options->json, "print one JSON object");
  command.footer("Example:\n  nori gc fruit.log --before seq:100000");
  on_chosen(command, chosen, options, gc);
}

}  // namespace nori::cli
