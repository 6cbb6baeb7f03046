// Lines from a descriptor, as they come.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "cli/interruption.h"
#include "nori/error.h"

namespace nori::cli {

/// Reads in large pieces, but hands out every line that is complete before it waits for more. Holds
/// one piece, and as much more as the longest line takes.
///
///   while (read_more() says more) { while (next_line()) ... }   then last_line()
class LineInput {
 public:
  /// `name` is what errors call it.
  LineInput(int descriptor, std::string name);

  /// The next line that has come in whole, without its newline. Valid until read_more().
  [[nodiscard]] std::optional<std::string_view> next_line();

  /// What stands behind the last newline once read_more() has said `end`: a line that lacks its
  /// own. Nothing if there is none.
  [[nodiscard]] std::optional<std::string_view> last_line() const;

  enum class Status : std::uint8_t { more, end, interrupted };
  /// Waits until there is input, and reads what is there.
  ///
  /// Errors: `io`; `too_large`: a line longer than any record can be.
  [[nodiscard]] Result<Status> read_more(const Interruption& interruption);

 private:
  void make_room();

  int descriptor_;
  std::string name_;
  std::size_t capacity_;
  std::unique_ptr<char[]> buffer_;
  std::size_t begin_ = 0;     // of what has not been handed out
  std::size_t searched_ = 0;  // no newline in [begin_, searched_)
  std::size_t end_ = 0;       // of what has been read
};

/// How it ended that lines were taken.
enum class LinesEnd : std::uint8_t {
  end,          ///< There are no more.
  stopped,      ///< Whoever took them did not want the next one.
  interrupted,  ///< A signal came.
};

/// Hands every line to `take`, until that answers false or a signal comes. Errors: as
/// read_more()'s.
template <typename Take>
[[nodiscard]] Result<LinesEnd> take_lines(LineInput& input, const Interruption& interruption,
                                          Take&& take) {
  for (;;) {
    const auto status = input.read_more(interruption);
    if (!status) {
      return std::unexpected(status.error());
    }
    if (*status == LineInput::Status::interrupted) {
      return LinesEnd::interrupted;
    }
    while (const auto line = input.next_line()) {
      if (Interruption::signal() != 0) {
        return LinesEnd::interrupted;
      }
      if (!take(*line)) {
        return LinesEnd::stopped;
      }
    }
    if (*status == LineInput::Status::end) {
      break;
    }
  }
  const auto line = input.last_line();
  return line && !take(*line) ? LinesEnd::stopped : LinesEnd::end;
}

}  // namespace nori::cli
