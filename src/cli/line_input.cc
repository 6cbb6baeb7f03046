#include "cli/line_input.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/make_error.h"
#include "cli/report.h"
#include "nori/options.h"

namespace nori::cli {

namespace {

constexpr std::size_t kPieceBytes = 256 * kKiB;
// A frame's payload is at most 4 GiB. In a line a byte takes six at most (\u0000).
constexpr std::size_t kLineBytesMax = 6 * 4 * kGiB + kMiB;

}  // namespace

LineInput::LineInput(int descriptor, std::string name)
    : descriptor_(descriptor),
      name_(std::move(name)),
      capacity_(2 * kPieceBytes),
      buffer_(std::make_unique_for_overwrite<char[]>(capacity_)) {}

std::optional<std::string_view> LineInput::next_line() {
  const void* found = std::memchr(buffer_.get() + searched_, '\n', end_ - searched_);
  if (found == nullptr) {
    searched_ = end_;
    return std::nullopt;
  }
  const auto line_end = static_cast<std::size_t>(static_cast<const char*>(found) - buffer_.get());
  const std::string_view line(buffer_.get() + begin_, line_end - begin_);
  begin_ = searched_ = line_end + 1;
  return line;
}

std::optional<std::string_view> LineInput::last_line() const {
  if (begin_ == end_) {
    return std::nullopt;
  }
  return std::string_view(buffer_.get() + begin_, end_ - begin_);
}

Result<LineInput::Status> LineInput::read_more(const Interruption& interruption) {
  make_room();
  if (end_ > kLineBytesMax) {
    return make_error(ErrorCode::too_large,
                      "{}: a line of more than {} bytes; no record is that long", name_,
                      kLineBytesMax);
  }
  for (;;) {
    if (Interruption::signal() != 0) {
      return Status::interrupted;
    }
    std::array<pollfd, 2> wait_for = {
        pollfd{.fd = descriptor_, .events = POLLIN, .revents = 0},
        pollfd{.fd = interruption.descriptor(), .events = POLLIN, .revents = 0}};
    const int ready = ::poll(wait_for.data(), wait_for.size(), -1);
    if (ready < 0 || Interruption::signal() != 0) {
      continue;
    }
    const ssize_t bytes_read = ::read(descriptor_, buffer_.get() + end_, capacity_ - end_);
    if (bytes_read > 0) {
      end_ += static_cast<std::size_t>(bytes_read);
      return Status::more;
    }
    if (bytes_read == 0) {
      return Status::end;
    }
    if (errno != EINTR && errno != EAGAIN) {
      return std::unexpected(
          Error{.code = ErrorCode::io,
                .message = name_ + ": " + errno_text(errno) + "; what came before is kept",
                .system_errno = errno});
    }
  }
}

// At least a piece, behind an unfinished line moved to the front.
void LineInput::make_room() {
  const std::size_t kept = end_ - begin_;
  if (capacity_ - kept < kPieceBytes) {
    const std::size_t capacity = 2 * capacity_;
    auto buffer = std::make_unique_for_overwrite<char[]>(capacity);
    std::memcpy(buffer.get(), buffer_.get() + begin_, kept);
    buffer_ = std::move(buffer);
    capacity_ = capacity;
  } else if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, kept);
  }
  searched_ -= begin_;
  begin_ = 0;
  end_ = kept;
}

}  // namespace nori::cli
