// What the tests and the writer they start say to each other: options as arguments, messages
// through the writer's standard output.

#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nori/options.h"
#include "tests/writer/workload.h"

namespace nori::writer_tests {

/// How a writer is to write, and what.
struct WriterOptions {
  std::string directory = {};
  std::string policy = "os";      ///< always, batch, os
  std::string io = "automatic";   ///< automatic, direct, buffered
  std::string padding = "block";  ///< block, none
  std::uint64_t ring_bytes = 256 * kKiB;
  std::uint64_t segment_bytes = kMiB;
  std::uint64_t seed = 0;
  std::uint64_t life = 0;
  std::uint64_t threads = 1;
  std::uint64_t batch_records_max = 1;
  /// The first thread rotates after every so many of its appends; 0: never.
  std::uint64_t rotate_every = 0;
  /// And then deletes all but the newest few segments.
  std::uint64_t deletes = 0;
  /// Some appends are held up in the middle of their copy for a moment.
  std::uint64_t hesitates = 0;
  /// append; hold: the first thread is held in the middle of a copy for ever; fork: a child that
  /// lives on has the log too; fork_often: many short-lived ones have.
  std::string act = "append";
  /// For `hold`: which of its appends.
  std::uint64_t hold_at = 0;

  [[nodiscard]] std::vector<std::string> to_arguments() const {
    std::vector<std::string> arguments;
    auto copy = *this;
    copy.for_each([&](std::string_view name, auto& value) {
      std::string text(name);
      text += '=';
      if constexpr (requires { text += std::string_view(value); }) {
        text += value;
      } else {
        text += std::to_string(value);
      }
      arguments.push_back(std::move(text));
    });
    return arguments;
  }

  /// Nothing if an argument is not an option.
  [[nodiscard]] static std::optional<WriterOptions> from_arguments(
      const std::vector<std::string_view>& arguments) {
    WriterOptions options;
    for (const auto argument : arguments) {
      bool known = false;
      options.for_each([&](std::string_view name, auto& value) {
        if (!argument.starts_with(name) || argument.substr(name.size(), 1) != "=") {
          return;
        }
        const auto text = argument.substr(name.size() + 1);
        if constexpr (requires { value = text; }) {
          value = text;
          known = true;
        } else {
          const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
          known = error == std::errc{} && end == text.data() + text.size();
        }
      });
      if (!known) {
        return std::nullopt;
      }
    }
    return options;
  }

  [[nodiscard]] WalOptions wal_options() const {
    WalOptions options;
    options.directory = directory;
    options.fsync = policy == "always"  ? FsyncPolicy::always()
                    : policy == "batch" ? FsyncPolicy::batch()
                                        : FsyncPolicy::os();
    options.io = io == "direct"     ? IoMode::direct
                 : io == "buffered" ? IoMode::buffered
                                    : IoMode::automatic;
    options.padding = padding == "none" ? Padding::none : Padding::block;
    options.ring_bytes = ring_bytes;
    options.segment_bytes = segment_bytes;
    return options;
  }

  /// With some values larger than a quarter of the ring, which take another way to the disk.
  [[nodiscard]] Workload workload() const {
    return {seed, batch_records_max,
            (ring_bytes == WalOptions::kNoRing ? 64 * kKiB : ring_bytes) / 4};
  }

 private:
  template <typename Function>
  void for_each(Function function) {
    function("directory", directory);
    function("policy", policy);
    function("io", io);
    function("padding", padding);
    function("ring_bytes", ring_bytes);
    function("segment_bytes", segment_bytes);
    function("seed", seed);
    function("life", life);
    function("threads", threads);
    function("batch_records_max", batch_records_max);
    function("rotate_every", rotate_every);
    function("deletes", deletes);
    function("hesitates", hesitates);
    function("act", act);
    function("hold_at", hold_at);
  }
};

/// What has happened. Written in one piece, at once, by whichever thread it happened to.
struct Message {
  enum class Kind : std::uint64_t {
    starting,      ///< Before open.
    opened,        ///< `first`: next_sequence. `flags`.
    appended,      ///< append() has returned for that thread's append: [first, end).
    durable,       ///< Everything before `end` is.
    deleting,      ///< About to delete segments before `end`.
    deleted,       ///< They are gone for good: the log begins at `first`.
    held,          ///< A thread is held in the middle of its copy.
    forked,        ///< `append`: the child's process id.
    child_answer,  ///< A call in the child: `thread`: which, `append`: the answer's ErrorCode.
    child_done,    ///< All of them have been made.
  };
  static constexpr std::uint64_t kClosedCleanly = 1;
  static constexpr std::uint64_t kCorruptionDetected = 2;
  static constexpr std::uint64_t kCreated = 4;
  /// In a child_answer: there was no error.
  static constexpr std::uint64_t kNoError = ~std::uint64_t{0};

  Kind kind = Kind::starting;
  std::uint64_t thread = 0;
  std::uint64_t append = 0;
  std::uint64_t first = 0;
  std::uint64_t end = 0;
  std::uint64_t flags = 0;
};

}  // namespace nori::writer_tests
