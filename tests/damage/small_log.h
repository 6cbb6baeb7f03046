// A small log on a simulated disk, a map of every byte of it, and what becomes of it when some are
// altered.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "format/frame.h"
#include "format/segment_footer.h"
#include "format/segment_header.h"
#include "nori/verify.h"
#include "nori/wal.h"
#include "testing/simulated_disk.h"

namespace nori::damage_tests {

inline constexpr std::string_view kDirectory = "log";
/// The consumer of logs that have one.
inline constexpr std::string_view kConsumer = "billing";

/// How the log was left.
enum class Ending : std::uint8_t {
  closed,        ///< By close().
  power_cut,     ///< Only what was durable is left: segments end in frames, the ring is old.
  process_died,  ///< All is left: the newest frames are only in the ring.
};

/// Three segments, written by two openings: batches, tombstones, an expiry, an empty key and value.
/// Holds few bytes that are not zero.
[[nodiscard]] std::unique_ptr<testing::SimulatedDisk> make_small_log(Ending ending,
                                                                     std::uint64_t seed = 1);

/// How the tests open logs on a simulated disk: no thread, the smallest ring.
[[nodiscard]] WalOptions options_on(testing::SimulatedDisk& disk, OpenMode mode = OpenMode::create,
                                    Verification verification = Verification::tail);

/// A record, all of it, for comparison.
using Records = std::vector<OwnedEntry>;
[[nodiscard]] bool same(const OwnedEntry& a, const OwnedEntry& b);
[[nodiscard]] bool same(const Records& a, const Records& b);
[[nodiscard]] bool is_prefix(const Records& shorter, const Records& longer);

/// What reading a log from its beginning gave.
struct Reading {
  Records records;
  /// The first error: of open, read_from or next.
  std::optional<Error> error;
  /// Records before and after it, with skip_damaged.
  Records records_skipping;
  RecoveryInfo recovery;
};
[[nodiscard]] Reading read_small_log(testing::SimulatedDisk& disk, Verification verification,
                                     bool skip_damaged = false);

/// Every file below the log's directory with its bytes; not the lock, which says who had it last.
using Files = std::map<std::string, std::vector<std::byte>>;
[[nodiscard]] Files files_of(const testing::SimulatedDisk& disk);

/// Where everything in the log's segments is, as the format says: written for this test, from
/// format/ alone.
struct LogMap {
  struct Frame {
    std::uint64_t segment_id = 0;
    std::uint64_t offset = 0;
    FrameHeader header;
    [[nodiscard]] std::uint64_t end() const { return offset + header.frame_bytes(); }
  };
  struct Segment {
    std::uint64_t id = 0;
    SegmentHeader header;
    std::uint64_t frames_end = 0;
    std::uint64_t file_bytes = 0;
    std::optional<SegmentSummary> footer;
    std::size_t first_frame = 0;  ///< Index of its first frame.
  };
  std::vector<Segment> segments;
  std::vector<Frame> frames;  ///< Of all segments, in order.

  [[nodiscard]] static LogMap of(const testing::SimulatedDisk& disk);

  [[nodiscard]] Sequence next_sequence() const { return frames.back().header.end_sequence(); }
  /// The frame that holds this byte; nothing where none does.
  [[nodiscard]] std::optional<std::size_t> frame_at(std::uint64_t segment_id,
                                                    std::uint64_t offset) const;
};

/// What one alteration touches.
struct Alteration {
  std::uint64_t segment_id = 0;
  bool header = false;               ///< The segment's header is void.
  std::optional<std::size_t> frame;  ///< The first frame that is void,
  bool all_behind = false;           ///< and whether all behind it in its file are too,
  bool frame_header = false;         ///< and whether its own header is.
};

/// What the documents promise of an altered log (docs/recovery.md): how many records are left
/// before the alteration, and whether anything says that more was durable.
struct Expectation {
  std::uint64_t records = 0;
  bool damaged = false;
  /// The place that is named.
  std::uint64_t segment_id = 0;
  std::uint64_t offset = 0;
};
[[nodiscard]] Expectation expect_of(const LogMap& map, const Alteration& alteration);

}  // namespace nori::damage_tests
