#include <fmt/format.h>

#include <map>
#include <string>
#include <system_error>
#include <variant>

#include "base/make_error.h"
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

struct GcOptions {
  std::filesystem::path directory;
  ReadFrom before;
  bool json = false;
};

struct Deleted {
  std::uint64_t segments = 0;
  std::uint64_t bytes = 0;
  Sequence first_sequence = 0;  // left
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

Result<Deleted> delete_segments(const GcOptions& options) {
  Opened opened = NORI_TRY(open_for_deletion(options.directory));
  const Position before = NORI_TRY(find_position(opened.wal, options.before));
  const auto sizes_before = segment_sizes(options.directory);
  Deleted deleted;
  deleted.segments = NORI_TRY(opened.wal.delete_segments_before(before));
  const auto sizes_after = segment_sizes(options.directory);
  for (const auto& [name, bytes] : sizes_before) {
    deleted.bytes += sizes_after.contains(name) ? 0 : bytes;
  }
  deleted.first_sequence = opened.wal.stats().first_sequence;
  NORI_TRY(opened.wal.close());
  return deleted;
}

int gc(const GcOptions& options) {
  const auto deleted = delete_segments(options);
  if (!deleted) {
    return report(deleted.error());
  }
  return print(options.json
                   ? json_text({{"segments_deleted", deleted->segments},
                                {"bytes_freed", deleted->bytes},
                                {"first_sequence", deleted->first_sequence}})
                   : fmt::format("{} segments deleted, {} bytes freed; the first record "
                                 "left is seq:{}\n",
                                 deleted->segments, deleted->bytes, deleted->first_sequence),
               kExitDone);
}

}  // namespace

void add_gc(CLI::App& tool, Command& chosen) {
  CLI::App& command = *tool.add_subcommand(
      "gc", "Delete the segments whose last record lies before a place, never the newest one.");
  const auto options = std::make_shared<GcOptions>();
  add_directory(command, options->directory);
  add_parsed_option(command, "--before", options->before, parse_exact_place, "SEG:OFF|seq:N",
                    "what lies before it is not needed any more")
      ->required();
  command.add_flag("--json", options->json, "print one JSON object");
  command.footer("Example:\n  nori gc fruit.log --before seq:100000");
  on_chosen(command, chosen, options, gc);
}

}  // namespace nori::cli
