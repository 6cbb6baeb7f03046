#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "nori/error.h"
#include "nori/position.h"

namespace nori {

/// The log goes on in a new segment, which has its name; what the old one holds is durable.
struct SegmentRotated {
  std::uint64_t sealed_segment_id = 0;
  std::uint64_t segment_id = 0;
  /// Of the first record in the new one.
  Sequence first_sequence = 0;
};

/// Recovery cut what a crash had left behind the end of the log.
struct TailCut {
  Position at;
  std::uint64_t bytes = 0;
  std::string reason;
};

/// Recovery copied or moved something into `quarantine/`, under this name.
struct FileQuarantined {
  std::string file;
};

/// A sync, or a write that carries itself to the disk, took longer than `WalOptions::slow_sync`.
struct SlowSync {
  /// What was synced: a segment, or the directory.
  std::string file;
  std::chrono::nanoseconds time_taken{0};
};

/// A write or sync failed: the log takes no more appends until it is opened again.
struct LogFailed {
  Error error;
};

/// The disk or a quota is full: appends, or syncs, are answered `no_space`.
struct SpaceExhausted {
  Error error;
};

/// What had found no space found some. Seen when somebody tries again.
struct SpaceAvailable {};

/// Durable data is missing or altered.
struct DamageFound {
  enum class By : std::uint8_t { recovery, reader, verify };
  By by = By::recovery;
  /// Where it begins. Both are 0 where not even a segment can be told: the reason names the file.
  std::uint64_t segment_id = 0;
  std::uint64_t offset = 0;
  std::string reason;
};

/// A consumer held back more than its cap allows: it is forgotten, and deletion goes on.
struct ConsumerDropped {
  std::string name;
  /// Where it stood.
  Position position;
  std::uint64_t bytes_held = 0;
  std::uint64_t lag_bytes_max = 0;
};

/// A cursor cannot be read: nobody knows what it needs, so nothing is deleted.
struct CursorUnreadable {
  std::string name;
  Error error;
};

/// Segments were compacted.
struct SegmentsCompacted {
  std::uint64_t files_before = 0;
  std::uint64_t files_after = 0;
  std::uint64_t bytes_before = 0;
  std::uint64_t bytes_after = 0;
};

using Event =
    std::variant<SegmentRotated, TailCut, FileQuarantined, SlowSync, LogFailed, SpaceExhausted,
                 SpaceAvailable, DamageFound, ConsumerDropped, CursorUnreadable, SegmentsCompacted>;

/// The event's name, for example "segment_rotated".
[[nodiscard]] std::string_view event_name(const Event& event) noexcept;
/// The event in one line, its name first.
[[nodiscard]] std::string describe(const Event& event);

/// Is told what happens in a log: set it in WalOptions.
///
/// Each event is told once, in the order in which they happened, one at a time. There is no thread
/// for it: whoever's call caused an event tells it before that call returns, after the log's locks
/// were released, or the log's own thread does; while one thread tells, others leave theirs to it.
/// Be quick, therefore, and take no lock that is held around calls into the log.
/// May call: any member of the log, append() included, and readers; what that causes is told after
/// on_event() has returned. Not close(), the destructor, or the step of the reader that is telling.
/// During open() there is no log yet to call; what close() and the destructor cause is told when
/// the log is closed, and calls answer so.
/// What on_event() throws is dropped and counted (WalStats::listener_exceptions).
/// 1024 events wait, at most, for a listener that does not return; what comes then is dropped and
/// counted (WalStats::events_dropped).
class EventListener {
 public:
  EventListener() = default;
  EventListener(const EventListener&) = delete;
  EventListener& operator=(const EventListener&) = delete;
  virtual ~EventListener() = default;

  virtual void on_event(const Event& event) = 0;
};

}  // namespace nori
