// Records that several threads append, numbered by each: what a reader sees can be checked record
// by record.

#pragma once

#include <fmt/format.h>

#include <charconv>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "nori/wal.h"

namespace nori::readers_tests {

/// Appends records 0, 1, 2, … of one writer, by ones, twos and threes.
class NumberedWriter {
 public:
  NumberedWriter(Wal& wal, std::uint64_t writer) : wal_(wal), writer_(writer) {}

  /// One append of up to three records.
  Result<Appended> append(Durability durability = Durability::policy) {
    return append_next([&](const auto& what) { return wal_.append(what, durability); });
  }
  /// The same by try_append: after `busy` the next one appends the same records.
  Result<Appended> try_append() {
    return append_next([&](const auto& what) { return wal_.try_append(what); });
  }

  [[nodiscard]] std::uint64_t records() const { return next_; }

  static std::string key_of(std::uint64_t writer, std::uint64_t number) {
    return fmt::format("{}/{}", writer, number);
  }
  static std::string value_of(std::uint64_t writer, std::uint64_t number) {
    // Now and then one that is larger than a block.
    const auto bytes = number % 500 == 7 ? 5000 : number % 100;
    return std::string(bytes, static_cast<char>('a' + (writer + number) % 26));
  }
  static bool ends_batch(std::uint64_t number) {
    return number % 6 == 0 || number % 6 == 2 || number % 6 == 5;
  }

 private:
  template <typename Append>
  Result<Appended> append_next(Append append) {
    const std::uint64_t count = next_ % 6 == 0 ? 1 : next_ % 6 == 1 ? 2 : 3;
    Result<Appended> appended;
    if (count == 1) {
      const auto key = key_of(writer_, next_);
      const auto value = value_of(writer_, next_);
      appended = append(Record::put(key, value));
    } else {
      batch_.clear();
      for (auto number = next_; number < next_ + count; ++number) {
        batch_.put(key_of(writer_, number), value_of(writer_, number));
      }
      appended = append(batch_);
    }
    next_ += appended ? count : 0;
    return appended;
  }

  Wal& wal_;
  std::uint64_t writer_;
  std::uint64_t next_ = 0;
  Batch batch_;
};

/// What a reader sees, checked: sequences without a gap, every writer's records in its order
/// without one, each as it was appended.
class NumberedCheck {
 public:
  /// What is wrong with `entry` as the next one; empty if nothing.
  [[nodiscard]] std::string see(const Entry& entry) {
    std::uint64_t writer = 0;
    std::uint64_t number = 0;
    const auto* const end = entry.key.data() + entry.key.size();
    const auto slash = std::from_chars(entry.key.data(), end, writer).ptr;
    if (slash == end || std::from_chars(slash + 1, end, number).ptr != end) {
      return fmt::format("sequence {} has the key '{}'", entry.sequence, entry.key);
    }
    const bool jumps = records_ == 0 || may_jump_;
    if (entry.sequence < next_ || (!jumps && entry.sequence != next_)) {
      return fmt::format("sequence {} where {} comes next", entry.sequence, next_);
    }
    may_jump_ = false;
    if (jumps) {
      // Every writer may go on anywhere behind what was seen of it.
      for (auto& [of_writer, next] : writers_) {
        next.exact = false;
      }
      begun_at_ = entry.sequence;
    }
    // One that has not been seen yet begins at 0, or behind the place where this reader began.
    const auto [at, first_seen] =
        writers_.try_emplace(writer, Next{.number = 0, .exact = begun_at_ == 0});
    auto& next = at->second;
    if (number < next.number || (next.exact && number != next.number)) {
      return fmt::format("sequence {} is record {} of writer {}, after {}", entry.sequence, number,
                         writer, next.number);
    }
    if (entry.value != NumberedWriter::value_of(writer, number) || entry.op != Operation::put ||
        entry.ends_batch != NumberedWriter::ends_batch(number)) {
      return fmt::format("sequence {} is not what was appended", entry.sequence);
    }
    if (entry.end.sequence != entry.sequence + 1 || entry.position.sequence != entry.sequence) {
      return fmt::format("sequence {} has the wrong position", entry.sequence);
    }
    if (entry.time < time_) {
      return fmt::format("at sequence {} the time goes back", entry.sequence);
    }
    time_ = entry.time;
    next = {.number = number + 1, .exact = true};
    next_ = entry.sequence + 1;
    ++records_;
    return {};
  }

  /// The next record may lie further on: the reader was told so.
  void may_jump() { may_jump_ = true; }

  [[nodiscard]] Sequence next_sequence() const { return next_; }
  [[nodiscard]] std::uint64_t records() const { return records_; }

 private:
  struct Next {
    std::uint64_t number = 0;
    bool exact = false;
  };
  std::map<std::uint64_t, Next> writers_;
  Sequence next_ = 0;
  Sequence begun_at_ = 0;
  std::uint64_t records_ = 0;
  TimePoint time_{};
  bool may_jump_ = false;
};

}  // namespace nori::readers_tests
