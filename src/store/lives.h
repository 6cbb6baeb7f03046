// What an item's short version stands for.

#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "nori/position.h"
#include "nori/store.h"
#include "store/item.h"

namespace nori {

/// A table that only grows: a row for each epoch and each 2^32 sequences of it.
///
/// Threads: row_of() any; at() any, of a row that came from row_of() or from an item.
class Lives {
 public:
  struct Row {
    Epoch epoch;
    Sequence first = 0;
  };

  [[nodiscard]] static Sequence first_for(Sequence sequence) noexcept {
    return sequence & ~Sequence{UINT32_MAX};
  }

  /// The number of the row that holds the record. Rows get their numbers in the order in which they
  /// are asked for. Throws std::bad_alloc.
  std::uint32_t row_of(Epoch epoch, Sequence sequence) {
    const std::lock_guard lock(mutex_);
    const Row row{.epoch = epoch, .first = first_for(sequence)};
    const std::pair key{epoch.bits, row.first};
    if (const auto found = rows_.find(key); found != rows_.end()) {
      return found->second;
    }
    const auto number = static_cast<std::uint32_t>(rows_.size());
    const auto [block, place] = place_of(number);
    if (blocks_[block] == nullptr) {
      blocks_[block] = std::make_unique<Row[]>(std::size_t{1} << block);
    }
    blocks_[block][place] = row;
    rows_.emplace(key, number);
    return number;
  }

  [[nodiscard]] const Row& at(std::uint32_t row) const noexcept {
    const auto [block, place] = place_of(row);
    return blocks_[block][place];
  }

  [[nodiscard]] Version version_of(const Item& item) const noexcept {
    const auto& row = at(item.life());
    return {.epoch = row.epoch, .sequence = row.first + item.number()};
  }

 private:
  struct Place {
    std::size_t block;
    std::size_t place;
  };
  /// Block b has 2^b rows: none ever moves.
  [[nodiscard]] static Place place_of(std::uint32_t row) noexcept {
    const auto number = std::uint64_t{row} + 1;
    const auto block = static_cast<std::size_t>(std::bit_width(number) - 1);
    return {block, static_cast<std::size_t>(number - (std::uint64_t{1} << block))};
  }

  std::mutex mutex_;
  std::map<std::pair<std::uint64_t, Sequence>, std::uint32_t> rows_;
  std::array<std::unique_ptr<Row[]>, 32> blocks_;
};

/// Gives items their versions; remembers the last row, which mostly is the next one's too.
///
/// Threads: one at a time.
class VersionGiver {
 public:
  explicit VersionGiver(Lives& lives) noexcept : lives_(lives) {}

  void give(Item& item, Epoch epoch, Sequence sequence) {
    const auto first = Lives::first_for(sequence);
    if (!has_row_ || epoch != epoch_ || first != first_) {
      row_ = lives_.row_of(epoch, sequence);
      epoch_ = epoch;
      first_ = first;
      has_row_ = true;
    }
    item.set_version(row_, static_cast<std::uint32_t>(sequence - first));
  }

 private:
  Lives& lives_;
  Epoch epoch_;
  Sequence first_ = 0;
  std::uint32_t row_ = 0;
  bool has_row_ = false;
};

}  // namespace nori
