// Where the readers of this process are, so that retention leaves them what they need.

#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "io/file_system.h"

namespace nori {

/// Threads: any. A reader moves its own place without a lock.
class ReaderPlaces {
 public:
  /// One reader's, for as long as it lives.
  class Place {
   public:
    explicit Place(io::FileSystem& file_system) : file_system_(file_system) {}

    /// The reader needs this segment and later ones.
    void move_to(std::uint64_t segment_id) {
      since_ms_.store(file_system_.now_ms(), std::memory_order_relaxed);
      segment_id_.store(segment_id, std::memory_order_release);
    }
    [[nodiscard]] std::uint64_t segment_id() const noexcept { return segment_id_.load(); }
    [[nodiscard]] std::uint64_t since_ms() const noexcept { return since_ms_.load(); }

   private:
    io::FileSystem& file_system_;
    std::atomic<std::uint64_t> segment_id_{0};  ///< Until it is placed it needs all.
    std::atomic<std::uint64_t> since_ms_{0};
  };

  explicit ReaderPlaces(io::FileSystem& file_system) : file_system_(file_system) {}

  [[nodiscard]] std::shared_ptr<Place> add() {
    auto place = std::make_shared<Place>(file_system_);
    place->move_to(0);
    const std::lock_guard lock(mutex_);
    std::erase_if(places_, [](const auto& one) { return one.expired(); });
    places_.push_back(place);
    return place;
  }

  /// The one that is furthest behind; nullptr without a reader.
  [[nodiscard]] std::shared_ptr<const Place> last() const {
    const std::lock_guard lock(mutex_);
    std::shared_ptr<const Place> last;
    for (const auto& one : places_) {
      if (auto place = one.lock();
          place != nullptr && (last == nullptr || place->segment_id() < last->segment_id())) {
        last = std::move(place);
      }
    }
    return last;
  }

 private:
  io::FileSystem& file_system_;
  mutable std::mutex mutex_;
  std::vector<std::weak_ptr<Place>> places_;
};

}  // namespace nori
