// What a store holds: the index, what its short versions stand for, and the sums over it.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "nori/position.h"
#include "nori/store.h"
#include "store/item.h"
#include "store/lives.h"
#include "store/ordered_index.h"

namespace nori {

/// Threads: none. Views of `index` and rows of `lives` that are there stay, whatever changes.
class Contents {
 public:
  Contents() : lives_(std::make_shared<Lives>()) {}
  /// What was loaded, with the sums of its items.
  struct Sums {
    std::uint64_t key_bytes = 0;
    std::uint64_t value_bytes = 0;
    std::uint64_t item_bytes = 0;

    void add(const Item& item) noexcept {
      key_bytes += item.key().size();
      value_bytes += item.value().size();
      item_bytes += item.memory_bytes();
    }
    void subtract(const Item& item) noexcept {
      key_bytes -= item.key().size();
      value_bytes -= item.value().size();
      item_bytes -= item.memory_bytes();
    }
    void add(const Sums& other) noexcept {
      key_bytes += other.key_bytes;
      value_bytes += other.value_bytes;
      item_bytes += other.item_bytes;
    }
  };
  Contents(OrderedIndex index, std::shared_ptr<Lives> lives, const Sums& sums)
      : index_(std::move(index)), lives_(std::move(lives)), sums_(sums) {}

  // Both return what was there before, so that it need not be freed under a lock. They throw
  // std::bad_alloc; nothing has changed then.

  ItemRef put(ItemRef item, OrderedIndex::Place& place) {
    auto* const added = item.get();
    auto replaced = index_.insert(std::move(item), place);
    sums_.add(*added);
    if (replaced) {
      sums_.subtract(*replaced);
    }
    return replaced;
  }
  ItemRef put(ItemRef item) {
    OrderedIndex::Place place;
    return put(std::move(item), place);
  }
  ItemRef remove(std::string_view key) {
    auto removed = index_.remove(key);
    if (removed) {
      sums_.subtract(*removed);
    }
    return removed;
  }

  [[nodiscard]] const OrderedIndex& index() const noexcept { return index_; }
  [[nodiscard]] const std::shared_ptr<Lives>& lives() const noexcept { return lives_; }
  [[nodiscard]] const Sums& sums() const noexcept { return sums_; }
  [[nodiscard]] std::uint64_t memory_bytes() const noexcept {
    return index_.memory_bytes() + sums_.item_bytes;
  }

 private:
  OrderedIndex index_;
  std::shared_ptr<Lives> lives_;
  Sums sums_;
};

[[nodiscard]] std::optional<TimePoint> expiry_of(const Item& item);
[[nodiscard]] StoreEntry entry_of(const Item& item, const Lives& lives);

/// Milliseconds since 1970, as an item counts them.
[[nodiscard]] std::int64_t ms_of(TimePoint time) noexcept;

}  // namespace nori
