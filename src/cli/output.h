// Standard output, written in large pieces.

#pragma once

#include <string>

namespace nori::cli {

/// Text on its way to a descriptor. After a failure it writes nothing more and says so on every
/// call.
///
/// Threads: one at a time.
class Output {
 public:
  explicit Output(int descriptor) : descriptor_(descriptor) {}

  /// Add to it what is to be written; then call one of the two below.
  [[nodiscard]] std::string& text() noexcept { return text_; }

  /// Writes if enough has come together. False once writing has failed.
  bool write_if_full() { return text_.size() < kBytesPerWrite ? failure_ == 0 : flush(); }
  /// Writes everything. False once writing has failed.
  bool flush();

  /// The errno of what failed, or 0. EINTR: a signal of Interruption came while it waited.
  [[nodiscard]] int failure() const noexcept { return failure_; }

  /// Whether whoever read the other end is known to have gone away.
  [[nodiscard]] bool reader_is_gone() const;

 private:
  static constexpr std::size_t kBytesPerWrite = 64 * 1024;

  int descriptor_;
  int failure_ = 0;
  std::string text_;
};

}  // namespace nori::cli
