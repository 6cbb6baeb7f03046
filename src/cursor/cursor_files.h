// The cursors of a log on disk.
//
//   cursors/NAME.lock        held by whoever reads as NAME; never replaced, never removed
//   cursors/NAME.cursor      its place (format/cursor.h); replaced by rename. Without it there is
//   no
//                            such consumer
//   cursors/NAME.cursor.tmp  a place being written: void
//   cursors.lock             held to make a cursor, to move one back or drop it, to move one that
//                            has a cap, and by a writer while it deletes segments
//
// A value is written aside, synced and renamed, so that it is always whole. Which of two values a
// power cut leaves is settled by a sync of cursors/. A writer that deletes therefore
//
//   takes cursors.lock, reads all values, syncs cursors/, deletes durably, gives the lock back:
//
// no value that a crash can leave, and none made meanwhile, needs what it deletes. A cursor that
// moves forward needs less, so it asks for no lock.

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/cursor.h"
#include "io/file_system.h"
#include "nori/error.h"

namespace nori {

inline constexpr std::size_t kConsumerNameCharactersMax = 128;
/// Names of the library's own consumers begin so.
inline constexpr std::string_view kReservedConsumerPrefix = "nori.";

/// Whether a consumer may have this name: 1 to 128 letters, digits, '-', '_' and '.', not beginning
/// with a dot. ASCII.
[[nodiscard]] bool is_consumer_name(std::string_view name) noexcept;
[[nodiscard]] Result<void> check_consumer_name(std::string_view name);

/// cursors/, or nullptr where there is none; makes nothing.
[[nodiscard]] Result<std::unique_ptr<io::Directory>> find_cursors(io::Directory& log);
/// cursors/, made where there is none. Durable with the next sync of the log's directory.
[[nodiscard]] Result<std::unique_ptr<io::Directory>> make_cursors(io::Directory& log);

/// What NAME.cursor holds; nothing where there is no such file. Errors: `damaged`: it holds no
/// cursor; `unsupported_version`; `io`, `permission`.
[[nodiscard]] Result<std::optional<CursorValue>> read_cursor(io::Directory& cursors,
                                                             std::string_view name);

/// A cursor as it was found: its value, or why there is none to read.
struct FoundCursor {
  std::string name;
  Result<CursorValue> value;
};
/// All there are, by name. Beside those that move them, each is as it was at some moment of the
/// call.
[[nodiscard]] Result<std::vector<FoundCursor>> read_cursors(io::Directory& cursors);

/// Writes a value aside and syncs it. Answers which file publish_cursor() will give the name.
[[nodiscard]] Result<io::FileId> prepare_cursor(io::Directory& cursors, std::string_view name,
                                                const CursorValue& value);
/// Gives what was prepared its name. Durable with the next sync of cursors/.
[[nodiscard]] Result<void> publish_cursor(io::Directory& cursors, std::string_view name);

[[nodiscard]] std::string cursor_file_name(std::string_view consumer);
[[nodiscard]] std::string cursor_lock_name(std::string_view consumer);

/// cursors.lock. Waits for it, `timeout` at most; then `locked`, naming the holder.
[[nodiscard]] Result<std::unique_ptr<io::Lock>> lock_cursors(io::FileSystem& file_system,
                                                             io::Directory& log,
                                                             std::chrono::milliseconds timeout);

}  // namespace nori
