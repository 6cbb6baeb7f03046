// Finds out what a directory holds, and where its log ends: reads only.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "format/frame.h"
#include "format/log_id.h"
#include "io/file_system.h"
#include "log/derived_places.h"
#include "log/frame_walker.h"
#include "log/log_listing.h"
#include "nori/error.h"
#include "nori/options.h"
#include "nori/wal.h"
#include "segment/summary_builder.h"

namespace nori {

/// How a segment begins: what its header says or, where the file is missing, would say.
struct SegmentStart {
  std::uint64_t segment_id = 0;
  Sequence first_sequence = 0;
  std::uint64_t epoch = 0;
  std::uint64_t first_offset = 0;
  std::uint64_t ring_base = 0;
  std::uint64_t created_ms = 0;
  bool has_file = false;  ///< With a header that fits.
  bool is_compacted = false;
  SegmentSummary summary = {};  ///< Of its frames, once a later segment was reached.
};

/// What a directory holds.
struct LogScan {
  LogListing listing;
  /// There is no log: nothing, or what a creation that was cut short leaves.
  bool blank = false;
  LogId log_id;

  // The end: behind the last frame that counts.
  FramePlaceInLog end;
  FrameChain chain;
  SegmentStart end_segment;
  SummaryBuilder end_summary;  ///< Of the end's segment.
  /// The log was closed, and nothing was left to do.
  bool closed_cleanly = false;
  /// Everything before it was durable at some moment: the highest mark found.
  Sequence durable_mark = 0;
  /// What was made from this log before it was scanned.
  std::vector<DerivedPlace> derived;

  /// Where frames begin that are not provably durable, or that only the ring has. Segments on the
  /// way to the end, this one's included.
  std::optional<WalkPoint> rewrite_from;
  std::vector<SegmentStart> segments_to_rewrite;
  /// Of frames that only the ring has.
  std::uint64_t bytes_from_ring = 0;

  // What lies behind the end.
  std::uint64_t bytes_behind_end = 0;  ///< In the end's segment, up to the last that is not blank.
  std::vector<SegmentFile> segments_behind_end;
  std::uint64_t bytes_in_segments_behind = 0;
  std::uint64_t bytes_behind_in_ring = 0;  ///< Of frames behind a hole that only the ring has.

  /// Durable data is missing or altered: at the end, and why.
  std::optional<Error> damage;

  RecoveryInfo info;
};

/// Reads as much of the log as `verification` asks for.
///
/// Beside a live writer it may find less than was appended when it returns, never damage that is
/// not there. Errors: `not_a_log` (files, but none of a log), `io`, `permission`,
/// `unsupported_version`. Damage is in the scan, unless not even a log's identity is left: then
/// `damaged`.
[[nodiscard]] Result<LogScan> scan_log(
    io::Directory& directory, Verification verification, RingAccess ring_access,
    const std::function<void(const RecoveryProgress&)>& on_progress);

}  // namespace nori
