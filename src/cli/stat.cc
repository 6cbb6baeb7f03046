#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/try.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/hold_text.h"
#include "cli/json_text.h"
#include "cli/open_log.h"
#include "cli/report.h"
#include "cli/size_text.h"
#include "nori/garbage.h"
#include "nori/verify.h"
#include "nori/wal.h"

namespace nori::cli {

namespace {

struct StatOptions {
  std::filesystem::path directory;
  bool quick = false;
  bool segments = false;
  bool json = false;
};

// What takes reading everything.
struct LogContents {
  std::uint64_t bytes_padding = 0;
  std::uint64_t bytes_torn = 0;
  std::uint64_t records_in_ring = 0;
  std::vector<SegmentReport> segments;
  /// Of the segments; empty where damage is in the way.
  std::vector<SegmentGarbage> garbage;
  SegmentGarbage total;
};

// What is told of a log.
struct LogSummary {
  std::uint64_t segments = 0;
  std::uint64_t records = 0;
  Sequence first_sequence = 0;
  Sequence next_sequence = 0;
  Sequence durable_mark = 0;
  std::uint64_t bytes = 0;
  bool is_damaged = false;
  std::optional<LogContents> contents;
  WalStats stats;
  std::uint64_t segments_scanned = 0;  ///< To open it, here.
};

Result<LogSummary> summarize(const StatOptions& options) {
  const Opened opened = NORI_TRY(open_for_reading(options.directory));
  LogSummary summary;
  summary.stats = opened.wal.stats();
  summary.segments = summary.stats.segments;
  summary.first_sequence = summary.stats.first_sequence;
  summary.next_sequence = summary.stats.next_sequence;
  summary.records = summary.next_sequence - summary.first_sequence;
  summary.durable_mark = summary.stats.durable_sequence;
  summary.bytes = summary.stats.bytes_on_disk;
  summary.is_damaged = opened.recovery.corruption_detected;
  summary.segments_scanned = opened.recovery.segments_scanned;
  if (options.quick) {
    return summary;
  }
  // A writer may have gone on: what can be told from one moment is.
  const VerifyReport report = NORI_TRY(verify(options.directory));
  summary.segments = report.segments.size();
  summary.first_sequence = report.first_sequence;
  summary.next_sequence = report.next_sequence;
  summary.records = report.records;
  summary.durable_mark = report.durable_mark;
  summary.bytes = report.bytes;
  summary.is_damaged = summary.is_damaged || !report.damages.empty();
  auto& contents = summary.contents.emplace();
  contents.bytes_torn = report.bytes_torn;
  contents.records_in_ring = report.records_in_ring;
  for (const SegmentReport& segment : report.segments) {
    contents.bytes_padding += segment.bytes_padding;
  }
  contents.segments = report.segments;
  if (!summary.is_damaged) {
    contents.garbage = find_garbage(options.directory).value_or(std::vector<SegmentGarbage>{});
  }
  for (const SegmentGarbage& segment : contents.garbage) {
    contents.total.records += segment.records;
    contents.total.records_live += segment.records_live;
    contents.total.bytes += segment.bytes;
    contents.total.bytes_live += segment.bytes_live;
    contents.total.tombstones += segment.tombstones;
  }
  return summary;
}

std::string_view io_name(const WalStats& stats) {
  return stats.io == IoMode::direct ? "direct" : "buffered";
}

const SegmentGarbage* garbage_of(const LogContents& contents, const SegmentReport& segment) {
  const auto found = std::ranges::find(contents.garbage, segment.file, &SegmentGarbage::file);
  return found != contents.garbage.end() ? &*found : nullptr;
}

Json segments_json(const LogContents& contents) {
  Json segments = Json::array();
  for (const SegmentReport& segment : contents.segments) {
    Json json;
    json["file"] = segment.file;
    json["bytes"] = segment.bytes;
    json["bytes_padding"] = segment.bytes_padding;
    json["records"] = segment.records;
    json["first_sequence"] = segment.first_sequence;
    json["end_sequence"] = segment.end_sequence;
    if (const auto* const garbage = garbage_of(contents, segment); garbage != nullptr) {
      json["records_live"] = garbage->records_live;
      json["record_bytes"] = garbage->bytes;
      json["record_bytes_live"] = garbage->bytes_live;
      json["tombstones"] = garbage->tombstones;
    }
    segments.push_back(std::move(json));
  }
  return segments;
}

// "80 %": how much of `all` is not `live`.
std::string wasted_text(std::uint64_t all, std::uint64_t live) {
  return fmt::format(
      "{:.0f} %",
      all == 0 ? 0.0 : 100.0 * static_cast<double>(all - live) / static_cast<double>(all));
}

std::string to_json(const std::string& directory, const LogSummary& summary) {
  Json json;
  json["directory"] = directory;
  json["segments"] = summary.segments;
  json["records"] = summary.records;
  json["first_sequence"] = summary.first_sequence;
  json["next_sequence"] = summary.next_sequence;
  json["durable_mark"] = summary.durable_mark;
  json["bytes"] = summary.bytes;
  json["damaged"] = summary.is_damaged;
  json["ring"] = {{"bytes", summary.stats.ring_bytes},
                  {"bytes_used", summary.stats.ring_bytes_used},
                  {"reason", summary.stats.ring_reason}};
  json["io"] = {{"mode", io_name(summary.stats)},
                {"reason", summary.stats.io_reason},
                {"block_bytes", summary.stats.block_bytes}};
  json["opening"] = {{"time_us", summary.stats.recovery_time.count()},
                     {"segments_scanned", summary.segments_scanned}};
  json["holds"] = holds_json(summary.stats.holds);
  if (summary.contents) {
    json["bytes_padding"] = summary.contents->bytes_padding;
    json["bytes_torn"] = summary.contents->bytes_torn;
    json["ring"]["records"] = summary.contents->records_in_ring;
    if (!summary.contents->garbage.empty()) {
      json["records_live"] = summary.contents->total.records_live;
      json["record_bytes"] = summary.contents->total.bytes;
      json["record_bytes_live"] = summary.contents->total.bytes_live;
      json["tombstones"] = summary.contents->total.tombstones;
    }
    json["segment_files"] = segments_json(*summary.contents);
  }
  return json_text(json);
}

std::string segments_text(const LogContents& contents) {
  std::string text = fmt::format("\n{:<18} {:>12} {:>10} {:>10} {:>10} {:>12} {:>7}\n", "segment",
                                 "bytes", "records", "live", "tombstones", "padding", "wasted");
  for (const SegmentReport& segment : contents.segments) {
    const auto* const garbage = garbage_of(contents, segment);
    text += fmt::format(
        "{:<18} {:>12} {:>10} {:>10} {:>10} {:>12} {:>7}\n", segment.file, segment.bytes,
        segment.records, garbage != nullptr ? fmt::to_string(garbage->records_live) : "?",
        garbage != nullptr ? fmt::to_string(garbage->tombstones) : "?", segment.bytes_padding,
        garbage != nullptr ? wasted_text(garbage->bytes, garbage->bytes_live) : "?");
  }
  return text;
}

std::string to_text(const std::string& directory, const LogSummary& summary, bool with_segments) {
  std::string text;
  const auto line = [&text](std::string_view name, std::string_view value) {
    fmt::format_to(std::back_inserter(text), "{:<14}{}\n", name, value);
  };
  const WalStats& stats = summary.stats;
  line("log", directory);
  line("segments", fmt::to_string(summary.segments));
  line("records", summary.next_sequence == summary.first_sequence
                      ? fmt::format("{}, the next is {}", summary.records, summary.next_sequence)
                      : fmt::format("{}, sequences {} to {}", summary.records,
                                    summary.first_sequence, summary.next_sequence - 1));
  line("durable mark",
       fmt::format("{}{}", summary.durable_mark,
                   summary.durable_mark >= summary.next_sequence ? ", everything is durable" : ""));
  line("bytes", bytes_text(summary.bytes));
  if (summary.contents) {
    line("padding", bytes_text(summary.contents->bytes_padding));
    if (!summary.contents->garbage.empty()) {
      const auto& total = summary.contents->total;
      line("live", fmt::format("{} records of {} bytes; {} tombstones", total.records_live,
                               total.bytes_live, total.tombstones));
      line("wasted space", fmt::format("{} of the records, {} of their bytes",
                                       wasted_text(total.records, total.records_live),
                                       wasted_text(total.bytes, total.bytes_live)));
    }
  }
  line("ring", stats.ring_bytes == 0
                   ? fmt::format("none: {}", stats.ring_reason)
                   : fmt::format("{}, {} not in a segment yet: {}", bytes_text(stats.ring_bytes),
                                 stats.ring_bytes_used, stats.ring_reason));
  if (summary.contents && summary.contents->records_in_ring > 0) {
    line("", fmt::format("{} records are only there", summary.contents->records_in_ring));
  }
  line("io", fmt::format("{}, blocks of {} bytes: {}", io_name(stats), stats.block_bytes,
                         stats.io_reason));
  line("opening", fmt::format("{:.3f} s, {} segments scanned",
                              std::chrono::duration<double>(stats.recovery_time).count(),
                              summary.segments_scanned));
  for (const auto& hold : stats.holds) {
    line("held back", hold_text(hold));
  }
  if (summary.contents && summary.contents->bytes_torn > 0) {
    line("torn tail", fmt::format("{}, no damage: a writer was killed or the power failed",
                                  bytes_text(summary.contents->bytes_torn)));
  }
  if (summary.is_damaged) {
    line("damaged", "yes: see nori verify");
  }
  if (with_segments && summary.contents) {
    text += segments_text(*summary.contents);
  }
  return text;
}

int stat(const StatOptions& options) {
  const auto summary = summarize(options);
  if (!summary) {
    return report(summary.error());
  }
  const std::string directory = options.directory.string();
  return print(
      options.json ? to_json(directory, *summary) : to_text(directory, *summary, options.segments),
      summary->is_damaged ? kExitNotThere : kExitDone);
}

}  // namespace

void add_stat(CLI::App& tool, Command& chosen) {
  CLI::App& command = *tool.add_subcommand(
      "stat", "Tell how much a log holds and how it works. Reads all of it; changes nothing.");
  const auto options = std::make_shared<StatOptions>();
  add_directory(command, options->directory);
  command.add_flag("--quick", options->quick, "leave out what takes reading everything");
  command.add_flag("--segments", options->segments, "also tell of each segment's file");
  command.add_flag("--json", options->json, "print one JSON object");
  command.footer("Example:\n  nori stat fruit.log --json | jq .records");
  on_chosen(command, chosen, options, stat);
}

}  // namespace nori::cli
