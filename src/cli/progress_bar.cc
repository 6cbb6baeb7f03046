#include "cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

namespace nori::cli {

namespace {

constexpr std::chrono::milliseconds kInterval{100};
constexpr std::string_view kEraseLine = "\r\x1b[K";

// What does not come through is not worth waiting for.
void write_once(int descriptor, std::string_view text) {
  [[maybe_unused]] const ssize_t written = ::write(descriptor, text.data(), text.size());
}

}  // namespace

ProgressBar::ProgressBar(int descriptor, std::optional<std::uint64_t> bytes_total)
    : descriptor_(descriptor), bytes_total_(bytes_total), is_terminal_(::isatty(descriptor) == 1) {}

void ProgressBar::show(std::uint64_t bytes, std::uint64_t lines) {
  if (!is_terminal_) {
    return;
  }
  const auto now = Clock::now();
  if (now - shown_ < kInterval) {
    return;
  }
  shown_ = now;
  is_there_ = true;
  write_once(descriptor_,
             std::string(kEraseLine) + progress_text(bytes, bytes_total_, lines, now - began_));
}

void ProgressBar::clear() {
  if (is_there_) {
    write_once(descriptor_, kEraseLine);
    is_there_ = false;
  }
}

std::string progress_text(std::uint64_t bytes, std::optional<std::uint64_t> bytes_total,
                          std::uint64_t lines, std::chrono::duration<double> taken) {
  constexpr std::size_t kWidth = 20;
  std::string text;
  if (bytes_total) {
    // A file may grow while it is read.
    const auto share =
        *bytes_total == 0
            ? 1.0
            : std::min(1.0, static_cast<double>(bytes) / static_cast<double>(*bytes_total));
    const auto full = static_cast<std::size_t>(share * kWidth);
    text = fmt::format("[{}{}] {:3} %  ", std::string(full, '#'), std::string(kWidth - full, '-'),
                       static_cast<int>(share * 100));
  }
  return text + fmt::format("{} lines, {}/s", lines, rate_of(lines, taken));
}

std::uint64_t rate_of(std::uint64_t count, std::chrono::duration<double> taken) {
  return taken.count() <= 0
             ? 0
             : static_cast<std::uint64_t>(static_cast<double>(count) / taken.count());
}

}  // namespace nori::cli
