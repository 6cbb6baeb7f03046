// How far a command has come, for who looks at a terminal.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace nori::cli {

/// One line on a terminal, written over and over, and gone in the end. Where the descriptor is no
/// terminal it writes nothing.
///
/// Threads: one at a time.
class ProgressBar {
 public:
  /// `bytes_total`: how much there is to read, if that is known.
  ProgressBar(int descriptor, std::optional<std::uint64_t> bytes_total);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  ~ProgressBar() { clear(); }

  /// So much was read, and so many lines done. Writes ten times a second at most.
  void show(std::uint64_t bytes, std::uint64_t lines);

  /// Takes the line away, for others to write there.
  void clear();

 private:
  using Clock = std::chrono::steady_clock;

  const int descriptor_;
  const std::optional<std::uint64_t> bytes_total_;
  const bool is_terminal_;
  const Clock::time_point began_ = Clock::now();
  Clock::time_point shown_ = began_;
  bool is_there_ = false;
};

/// "[#####---------------]  25 %  1000 lines, 2000/s", or the same without bar.
[[nodiscard]] std::string progress_text(std::uint64_t bytes,
                                        std::optional<std::uint64_t> bytes_total,
                                        std::uint64_t lines, std::chrono::duration<double> taken);

/// How many a second.
[[nodiscard]] std::uint64_t rate_of(std::uint64_t count, std::chrono::duration<double> taken);

}  // namespace nori::cli
