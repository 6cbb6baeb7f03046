// A key, its value and its version, in one piece of memory: what a store's index points to.
//
//   offset  size  field
//        0     4  references
//        4     4  key_bytes
//        8     4  value_bytes
//       12     4  life           which (epoch, first sequence) of Lives; the top bit: it may expire
//       16     4  number         the record's sequence, from that first one on
//       20        key, then value, then (only if it may expire) 8 bytes: milliseconds since 1970
//
// 20 bytes instead of the 40 of plain members: with keys of 16 and values of 100 bytes that is a
// tenth of a store's memory.

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "nori/record.h"

namespace nori {

/// Never changes once others can see it, but for its count of references.
class Item {
 public:
  /// The bytes of one that holds so much.
  [[nodiscard]] static std::uint64_t bytes_of(std::uint64_t key_bytes, std::uint64_t value_bytes,
                                              bool may_expire) noexcept {
    return sizeof(Item) + key_bytes + value_bytes + (may_expire ? sizeof(std::int64_t) : 0);
  }
  /// What it takes of the memory: allocations come in steps of 16 bytes, each with 8 of its own.
  [[nodiscard]] static std::uint64_t memory_of(std::uint64_t bytes) noexcept {
    return (bytes + 8 + 15) / 16 * 16;
  }

  /// One reference, the caller's. Key and value are shorter than 4 GiB. Throws std::bad_alloc.
  [[nodiscard]] static Item* make(std::string_view key, std::string_view value,
                                  std::optional<TimePoint> expires_at) {
    const auto bytes = bytes_of(key.size(), value.size(), expires_at.has_value());
    void* const memory = std::malloc(bytes);
    if (memory == nullptr) {
      throw std::bad_alloc();
    }
    auto* const item = new (memory)
        Item(static_cast<std::uint32_t>(key.size()), static_cast<std::uint32_t>(value.size()));
    char* to = item->text();
    if (!key.empty()) {
      std::memcpy(to, key.data(), key.size());
    }
    to += key.size();
    if (!value.empty()) {
      std::memcpy(to, value.data(), value.size());
    }
    if (expires_at) {
      const auto ms = std::chrono::floor<std::chrono::milliseconds>(expires_at->time_since_epoch());
      const std::int64_t count = ms.count();
      std::memcpy(to + value.size(), &count, sizeof(count));
      item->life_ = kMayExpire;
    }
    return item;
  }

  Item(const Item&) = delete;
  Item& operator=(const Item&) = delete;

  [[nodiscard]] std::string_view key() const noexcept { return {text(), key_bytes_}; }
  [[nodiscard]] std::string_view value() const noexcept {
    return {text() + key_bytes_, value_bytes_};
  }
  [[nodiscard]] bool may_expire() const noexcept { return (life_ & kMayExpire) != 0; }
  /// Milliseconds since 1970. Only of one that may_expire().
  [[nodiscard]] std::int64_t expires_at_ms() const noexcept {
    std::int64_t ms = 0;
    std::memcpy(&ms, text() + key_bytes_ + value_bytes_, sizeof(ms));
    return ms;
  }
  [[nodiscard]] bool has_expired(std::int64_t now_ms) const noexcept {
    return may_expire() && expires_at_ms() <= now_ms;
  }
  [[nodiscard]] std::uint32_t life() const noexcept { return life_ & ~kMayExpire; }
  [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
  [[nodiscard]] std::uint64_t memory_bytes() const noexcept {
    return memory_of(bytes_of(key_bytes_, value_bytes_, may_expire()));
  }

  /// Before anybody else sees it.
  void set_version(std::uint32_t life, std::uint32_t number) noexcept {
    life_ = life | (life_ & kMayExpire);
    number_ = number;
  }

  void add_reference() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    // Whoever holds the only reference needs no other thread's consent.
    if (references_.load(std::memory_order_acquire) == 1 ||
        references_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      std::free(this);
    }
  }

 private:
  static constexpr std::uint32_t kMayExpire = 1U << 31;

  Item(std::uint32_t key_bytes, std::uint32_t value_bytes) noexcept
      : key_bytes_(key_bytes), value_bytes_(value_bytes) {}

  [[nodiscard]] char* text() noexcept { return reinterpret_cast<char*>(this + 1); }
  [[nodiscard]] const char* text() const noexcept {
    return reinterpret_cast<const char*>(this + 1);
  }

  std::atomic<std::uint32_t> references_{1};
  std::uint32_t key_bytes_;
  std::uint32_t value_bytes_;
  std::uint32_t life_ = 0;
  std::uint32_t number_ = 0;
};

/// A reference to an item, or to none.
class ItemRef {
 public:
  ItemRef() noexcept = default;
  /// Takes the caller's reference over.
  explicit ItemRef(Item* item) noexcept : item_(item) {}
  /// A reference of its own.
  [[nodiscard]] static ItemRef to(Item* item) noexcept {
    if (item != nullptr) {
      item->add_reference();
    }
    return ItemRef(item);
  }
  ItemRef(const ItemRef& other) noexcept : ItemRef(to(other.item_)) {}
  ItemRef(ItemRef&& other) noexcept : item_(std::exchange(other.item_, nullptr)) {}
  ItemRef& operator=(ItemRef other) noexcept {
    std::swap(item_, other.item_);
    return *this;
  }
  ~ItemRef() {
    if (item_ != nullptr) {
      item_->release();
    }
  }

  [[nodiscard]] Item* get() const noexcept { return item_; }
  [[nodiscard]] Item* operator->() const noexcept { return item_; }
  [[nodiscard]] Item& operator*() const noexcept { return *item_; }
  explicit operator bool() const noexcept { return item_ != nullptr; }
  /// Gives the reference to the caller.
  [[nodiscard]] Item* detach() noexcept { return std::exchange(item_, nullptr); }

 private:
  Item* item_ = nullptr;
};

}  // namespace nori
