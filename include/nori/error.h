#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "nori/position.h"

namespace nori {

/// What went wrong, as a stable code: branch on it, show the message.
enum class ErrorCode : std::uint8_t {
  not_a_log,            ///< The directory is missing, or holds something else.
  unsupported_version,  ///< Written by a newer version; the message names the version.
  permission,           ///< The operating system refused access.
  locked,               ///< Another writer holds the log; the message names it.
  invalid_argument,     ///< The caller asked for something that cannot be; nothing was done.
  too_large,            ///< A record or batch beyond the frame limit; nothing was done.
  no_space,             ///< The disk or a quota is full; works again when there is room.
  io,                   ///< The operating system reported a failed read, write or sync.
  damaged,              ///< Data that had been durable is missing or was altered.
  gone,                 ///< The place lies before the first record left.
  not_a_record,         ///< No frame begins at that place.
  closed,               ///< The log was closed, or this process is a fork of the writer's.
  busy,                 ///< It would have had to wait: `try_append`, or a second snapshot.
  would_block,          ///< Called back by the log, one may not wait for it.
};

/// The code's name as it is written in source, for example "no_space".
[[nodiscard]] std::string_view error_code_name(ErrorCode code) noexcept;

/// An error: a stable code, and a message that names the file and offset where there is one and
/// says what to do.
struct Error {
  ErrorCode code = ErrorCode::io;
  std::string message;
  /// The operating system's errno, or 0.
  int system_errno = 0;
  /// For an append that is visible but could not be made durable: where it stands. Such a record
  /// is *appended*: do not append it again.
  std::optional<Position> position = std::nullopt;
};

/// The value, or why there is none.
template <typename T>
using Result = std::expected<T, Error>;

}  // namespace nori
