// Lines from a descriptor, as they come.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
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
  explicit LineInput(int descriptor);

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
  std::size_t capacity_;
  std::unique_ptr<char[]> buffer_;
  std::size_t begin_ = 0;     // of what has not been handed out
  std::size_t searched_ = 0;  // no newline in [begin_, searched_)
  std::size_t end_ = 0;       // of what has been read
};

}  // namespace nori::cli
