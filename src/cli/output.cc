#include "cli/output.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "cli/interruption.h"

namespace nori::cli {

bool Output::flush() {
  std::string_view rest = text_;
  while (failure_ == 0 && !rest.empty()) {
    const ssize_t written = ::write(descriptor_, rest.data(), rest.size());
    if (written >= 0) {
      rest.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd wait_for = {.fd = descriptor_, .events = POLLOUT, .revents = 0};
      ::poll(&wait_for, 1, -1);
    } else if (errno != EINTR || Interruption::signal() != 0) {
      failure_ = errno;
    }
  }
  text_.clear();
  return failure_ == 0;
}

bool Output::reader_is_gone() const {
  pollfd state = {.fd = descriptor_, .events = 0, .revents = 0};
  return ::poll(&state, 1, 0) == 1 && (state.revents & POLLERR) != 0;
}

}  // namespace nori::cli
