// What a log says of each key, gathered from its records in any number.
//
// Records are gathered as they come and sorted once, which is several times as fast as inserting
// them one by one. Where many of them are about the same keys, they are sorted in between, so that
// what is superseded never takes more memory than what is not.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nori/wal.h"
#include "store/item.h"
#include "store/lives.h"

namespace nori {

/// The newest record of a key: an item, or that it is gone. 16 bytes, moved as such.
class Change {
 public:
  Change(ItemRef item, bool is_removal) noexcept
      : tagged_(reinterpret_cast<char*>(item.detach()) + (is_removal ? 1 : 0)) {
    make_head(0);
  }

  [[nodiscard]] const Item& item() const noexcept { return *get(); }
  [[nodiscard]] bool is_removal() const noexcept {
    return reinterpret_cast<std::uintptr_t>(tagged_) % 2 != 0;
  }
  [[nodiscard]] std::string_view key() const noexcept { return item().key(); }

 private:
  friend class Changes;
  [[nodiscard]] Item* get() const noexcept {
    return reinterpret_cast<Item*>(tagged_ - (is_removal() ? 1 : 0));
  }
  void make_head(std::size_t skip) noexcept;
  [[nodiscard]] static bool is_before(const Change& a, const Change& b) noexcept;

  /// Eight bytes of the key as a number, behind what all keys share.
  std::uint64_t head_ = 0;
  char* tagged_;  ///< The item; for a removal the byte behind its first one. nullptr: given away.
};

/// Threads: one at a time.
class Changes {
 public:
  /// What is added gets its version by `lives`.
  Changes(Lives& lives, unsigned threads) : versions_(lives), threads_(threads) {}
  ~Changes();
  Changes(const Changes&) = delete;
  Changes& operator=(const Changes&) = delete;

  /// Behind all that was added before.
  void add(const Entry& entry);

  /// The newest of each key, in the order of keys.
  [[nodiscard]] std::span<const Change> settle();
  /// The first that is not below `key`; after settle().
  [[nodiscard]] std::size_t first_from(std::string_view key) const noexcept;
  /// The reference to its item goes to the caller. For several threads, each with places of its
  /// own.
  [[nodiscard]] ItemRef take(std::size_t place) noexcept;

 private:
  void sort();

  VersionGiver versions_;
  const unsigned threads_;
  std::vector<Change> changes_;
  std::size_t settled_ = 0;  ///< So many were left by the last sort.
  std::string first_key_;
  std::size_t common_bytes_ = 0;  ///< All keys begin with so much of the first one.
  std::size_t skip_ = 0;          ///< Heads begin there.
};

}  // namespace nori
