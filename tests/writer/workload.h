// Records that can be recognised wherever they turn up: the key says which record it is, and the
// rest follows from the key.

#pragma once

#include <algorithm>
#include <charconv>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "nori/record.h"
#include "nori/wal.h"

namespace nori::writer_tests {

/// The life (one run of a writer), the thread in it, the number of that thread's append, and the
/// record's place in what was appended.
struct RecordId {
  std::uint64_t life = 0;
  std::uint64_t thread = 0;
  std::uint64_t append = 0;
  std::uint64_t index = 0;
  std::uint64_t count = 1;

  friend auto operator<=>(const RecordId&, const RecordId&) = default;

  [[nodiscard]] std::string key() const {
    return std::to_string(life) + '/' + std::to_string(thread) + '/' + std::to_string(append) +
           '/' + std::to_string(index) + '/' + std::to_string(count);
  }
  /// Nothing if the key is not one of ours.
  [[nodiscard]] static std::optional<RecordId> from_key(std::string_view key) {
    RecordId id;
    const char* at = key.data();
    const char* const end = at + key.size();
    for (auto* number : {&id.life, &id.thread, &id.append, &id.index, &id.count}) {
      const auto [behind, error] = std::from_chars(at, end, *number);
      if (error != std::errc{} || (behind != end) != (number != &id.count) ||
          (behind != end && *behind != '/')) {
        return std::nullopt;
      }
      at = behind == end ? behind : behind + 1;
    }
    return id;
  }
};

/// What the records hold.
class Workload {
 public:
  /// A few of the values are `large_bytes` long or a little longer.
  Workload(std::uint64_t seed, std::uint64_t batch_records_max, std::uint64_t large_bytes)
      : seed_(seed), batch_records_max_(batch_records_max), large_bytes_(large_bytes) {}

  /// How many records that append has.
  [[nodiscard]] std::uint64_t records_in(std::uint64_t life, std::uint64_t thread,
                                         std::uint64_t append) const {
    return 1 + bits({.life = life, .thread = thread, .append = append, .index = ~0ULL}) %
                   batch_records_max_;
  }

  /// Uses `memory` for the bytes.
  [[nodiscard]] Record record(const RecordId& id, std::string& key, std::string& value) const {
    const auto random = bits(id);
    key = id.key();
    value.resize(value_bytes(random));
    fill(value, random);
    if (random % 16 == 0) {
      return Record::remove(key);
    }
    if (random % 16 == 1) {
      return Record::put(key, value,
                         TimePoint(std::chrono::milliseconds(1'900'000'000'000 + random % 1000)));
    }
    return Record::put(key, value);
  }

  /// Whether `entry` is the record of that name, to the byte.
  [[nodiscard]] bool matches(const RecordId& id, const Entry& entry) const {
    thread_local std::string key;
    thread_local std::string value;
    const auto expected = record(id, key, value);
    return entry.op == expected.op && entry.key == expected.key && entry.value == expected.value &&
           entry.expires_at == expected.expires_at &&
           entry.ends_batch == (id.index + 1 == id.count);
  }

  /// Random bits that belong to that record.
  [[nodiscard]] std::uint64_t bits(const RecordId& id) const {
    std::uint64_t state = seed_;
    for (const auto number : {id.life, id.thread, id.append, id.index}) {
      state = mix(state ^ number);
    }
    return state;
  }

 private:
  // splitmix64
  [[nodiscard]] static std::uint64_t mix(std::uint64_t state) {
    state += 0x9e3779b97f4a7c15U;
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9U;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebU;
    return state ^ (state >> 31);
  }

  // Mostly small ones; none, a few pages, and those that are larger than a quarter of the ring.
  [[nodiscard]] std::size_t value_bytes(std::uint64_t random) const {
    const auto kind = (random >> 8) % 512;
    const auto more = random >> 32;
    if (kind == 0) {
      return large_bytes_ + more % 1000;
    }
    if (kind < 16) {
      return 0;
    }
    if (kind < 32) {
      return more % 12'000;
    }
    return more % 200;
  }

  static void fill(std::string& value, std::uint64_t random) {
    for (std::size_t at = 0; at < value.size(); at += sizeof(random)) {
      random = random * 0x5851f42d4c957f2dU + 0x14057b7ef767814fU;
      std::memcpy(&value[at], &random, std::min(sizeof(random), value.size() - at));
    }
  }

  std::uint64_t seed_;
  std::uint64_t batch_records_max_;
  std::uint64_t large_bytes_;
};

}  // namespace nori::writer_tests
