#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nori/compression.h"

namespace nori {

/// Wall-clock time, kept to the millisecond.
using TimePoint = std::chrono::system_clock::time_point;

/// What a record says of its key.
enum class Operation : std::uint8_t {
  put,     ///< The key has this value from here on.
  remove,  ///< A tombstone: the key is gone from here on.
};

/// A record to append: views of bytes that the caller keeps until the append has returned. Key and
/// value are bytes, not text; either may be empty.
struct Record {
  Operation op = Operation::put;
  std::string_view key;
  std::string_view value;
  /// When the record stops counting. The log keeps and returns it all the same.
  std::optional<TimePoint> expires_at;
  /// How the value is stored, whatever the log's options say; otherwise as they say.
  std::optional<Compression> compression = std::nullopt;

  /// `key` has `value`.
  [[nodiscard]] static Record put(std::string_view key, std::string_view value) {
    return {.op = Operation::put,
            .key = key,
            .value = value,
            .expires_at = std::nullopt,
            .compression = std::nullopt};
  }
  /// `key` has `value` until `expires_at`.
  [[nodiscard]] static Record put(std::string_view key, std::string_view value,
                                  TimePoint expires_at) {
    return {.op = Operation::put,
            .key = key,
            .value = value,
            .expires_at = expires_at,
            .compression = std::nullopt};
  }
  /// `key` is gone: a tombstone.
  [[nodiscard]] static Record remove(std::string_view key) {
    return {.op = Operation::remove,
            .key = key,
            .value = {},
            .expires_at = std::nullopt,
            .compression = std::nullopt};
  }
};

/// Records that are appended as one: after a crash all of them are there, or none. Copies what it
/// is given. Reuse one with clear() to save its memory's allocation.
///
/// Threads: one at a time.
class Batch {
 public:
  /// Adds a record behind those already added.
  void add(const Record& record);
  /// Adds `Record::put(key, value)`.
  void put(std::string_view key, std::string_view value) { add(Record::put(key, value)); }
  /// Adds `Record::remove(key)`.
  void remove(std::string_view key) { add(Record::remove(key)); }
  /// Forgets all records, keeps the memory.
  void clear() noexcept;
  /// How many records there are.
  [[nodiscard]] std::uint64_t record_count() const noexcept { return record_count_; }
  /// Whether there is none.
  [[nodiscard]] bool empty() const noexcept { return record_count_ == 0; }
  /// The records as they will stand in the log, in bytes, unless the log compresses some.
  [[nodiscard]] std::string_view encoded() const noexcept { return encoded_; }
  /// The largest value that the log may compress, in bytes.
  [[nodiscard]] std::uint64_t largest_value_bytes() const noexcept { return largest_value_bytes_; }
  /// The numbers, from 0 on, of records whose value it may not.
  [[nodiscard]] const std::vector<std::uint64_t>& kept_plain() const noexcept {
    return kept_plain_;
  }

 private:
  std::string encoded_;
  std::uint64_t record_count_ = 0;
  std::uint64_t largest_value_bytes_ = 0;
  std::vector<std::uint64_t> kept_plain_;
};

}  // namespace nori
