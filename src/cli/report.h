// How the tool ends, and what it says on standard error: `nori: what: why; what to do`.

#pragma once

#include <string>
#include <string_view>

#include "nori/error.h"

namespace nori::cli {

inline constexpr int kExitDone = 0;      ///< A torn tail is not damage.
inline constexpr int kExitNotThere = 1;  ///< Damage, or the thing asked for is not there.
inline constexpr int kExitUsage = 2;     ///< The command line makes no sense.
inline constexpr int kExitFailed = 3;    ///< Held, full, an I/O error, malformed input.
/// Plus a signal's number: end as killed by it (see end_by_signal).
inline constexpr int kExitBySignal = 128;

/// What the tool ends with after this error.
[[nodiscard]] int exit_code_of(ErrorCode code) noexcept;

/// Writes `nori: message` and a newline to standard error, in one piece.
void complain(std::string_view message);

/// Says what went wrong and returns what to end with.
int report(const Error& error);

/// The same for standard output that could not be written. A reader that went away (EPIPE) is no
/// reason for a message.
int report_output_failure(int system_errno);

/// Writes `text` to standard output. Returns `exit_code`, or that of a failure to write.
[[nodiscard]] int print(std::string text, int exit_code);

/// The operating system's words for an errno.
[[nodiscard]] std::string errno_text(int system_errno);

/// Ends this process as `signal` would have: quietly, and so that a shell can tell.
[[noreturn]] void end_by_signal(int signal);

}  // namespace nori::cli
