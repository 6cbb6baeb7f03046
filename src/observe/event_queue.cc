#include "observe/event_queue.h"

#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <new>
#include <utility>

#include "io/file_system.h"

namespace nori {
namespace {

constexpr std::size_t kWaitingMax = 1024;

constexpr std::string_view name_of(const SegmentRotated& /*event*/) { return "segment_rotated"; }
constexpr std::string_view name_of(const TailCut& /*event*/) { return "tail_cut"; }
constexpr std::string_view name_of(const FileQuarantined& /*event*/) { return "file_quarantined"; }
constexpr std::string_view name_of(const SlowSync& /*event*/) { return "slow_sync"; }
constexpr std::string_view name_of(const LogFailed& /*event*/) { return "log_failed"; }
constexpr std::string_view name_of(const SpaceExhausted& /*event*/) { return "space_exhausted"; }
constexpr std::string_view name_of(const SpaceAvailable& /*event*/) { return "space_available"; }
constexpr std::string_view name_of(const DamageFound& /*event*/) { return "damage_found"; }
constexpr std::string_view name_of(const ConsumerDropped& /*event*/) { return "consumer_dropped"; }
constexpr std::string_view name_of(const CursorUnreadable& /*event*/) {
  return "cursor_unreadable";
}
constexpr std::string_view name_of(const SegmentsCompacted& /*event*/) {
  return "segments_compacted";
}

std::string text_of(const SegmentRotated& event) {
  return fmt::format("segment {} follows {} with record {}", event.segment_id,
                     event.sealed_segment_id, event.first_sequence);
}
std::string text_of(const TailCut& event) {
  return fmt::format("{} bytes of segment {} from offset {} on: {}", event.bytes,
                     event.at.segment_id, event.at.offset, event.reason);
}
std::string text_of(const FileQuarantined& event) { return event.file; }
std::string text_of(const SlowSync& event) {
  return fmt::format("{} took {:.3f} s", event.file,
                     std::chrono::duration<double>(event.time_taken).count());
}
std::string text_of(const LogFailed& event) { return event.error.message; }
std::string text_of(const SpaceExhausted& event) { return event.error.message; }
std::string text_of(const SpaceAvailable& /*event*/) {
  return "what had found no space found some";
}
std::string text_of(const DamageFound& event) {
  constexpr std::string_view kBy[] = {"recovery", "a reader", "verify"};
  return fmt::format("segment {} at offset {}, by {}: {}", event.segment_id, event.offset,
                     kBy[static_cast<std::size_t>(event.by)], event.reason);
}
std::string text_of(const ConsumerDropped& event) {
  return fmt::format("{} held back {} bytes at record {}, and may hold back {}", event.name,
                     event.bytes_held, event.position.sequence, event.lag_bytes_max);
}
std::string text_of(const CursorUnreadable& event) {
  return fmt::format("{}: {}", event.name, event.error.message);
}
std::string text_of(const SegmentsCompacted& event) {
  return fmt::format("{} files to {}, {} bytes to {}", event.files_before, event.files_after,
                     event.bytes_before, event.bytes_after);
}

}  // namespace

std::string_view event_name(const Event& event) noexcept {
  return std::visit([](const auto& one) { return name_of(one); }, event);
}

std::string describe(const Event& event) {
  return std::visit(
      [](const auto& one) { return fmt::format("{}: {}", name_of(one), text_of(one)); }, event);
}

EventQueue::EventQueue(std::shared_ptr<EventListener> listener)
    : listener_(std::move(listener)), fork_generation_(io::fork_generation()) {}

void EventQueue::post(Event event) {
  if (listener_ == nullptr) {
    return;
  }
  const std::lock_guard lock(mutex_);
  try {
    if (events_.size() < kWaitingMax) {
      events_.push_back(std::move(event));
      has_events_.store(true);
      return;
    }
  } catch (const std::bad_alloc&) {
    dropped_.fetch_add(1);  // what happened counts more than that it is told
    return;
  }
  dropped_.fetch_add(1);
}

void EventQueue::tell() {
  if (io::fork_generation() != fork_generation_) {
    return;  // the parent tells them, and this lock may be another thread's for ever
  }
  std::unique_lock lock(mutex_);
  if (is_telling_) {
    return;
  }
  is_telling_ = true;
  while (!events_.empty()) {
    const auto event = std::move(events_.front());
    events_.pop_front();
    lock.unlock();
    try {
      listener_->on_event(event);
    } catch (...) {
      exceptions_.fetch_add(1);
    }
    lock.lock();
  }
  is_telling_ = false;
  has_events_.store(false);
}

}  // namespace nori
