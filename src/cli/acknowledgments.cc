#include "cli/acknowledgments.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <iterator>
#include <vector>

#include "cli/interruption.h"

namespace nori::cli {

Acknowledgments::Acknowledgments(Wal& wal, AckLevel level, FsyncPolicy::Kind policy)
    : wal_(wal),
      level_(level),
      durable_on_return_(policy == FsyncPolicy::Kind::always),
      output_(STDOUT_FILENO) {
  if (level_ == AckLevel::durable && !durable_on_return_) {
    const SignalsBlocked blocked;
    watcher_ = std::thread([this] { watch(); });
  }
}

Acknowledgments::~Acknowledgments() { stop_watching(); }

void Acknowledgments::appended(Sequence sequence, const Position& position,
                               std::uint64_t record_count) {
  const Sequence end = sequence + record_count;
  if (level_ == AckLevel::none) {
    return;
  }
  if (level_ == AckLevel::appended) {
    print(position, sequence, end);
    flush();
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    pending_.push_back(
        {.segment_id = position.segment_id, .offset = position.offset, .sequence = sequence});
    pending_end_ = end;
  }
  if (durable_on_return_) {
    write_durable(wal_.durable_position().sequence);
  } else {
    changed_.notify_one();
  }
}

Result<void> Acknowledgments::close_log() {
  stop_watching();
  // Behind close() the log is not there to be asked.
  const Sequence durable = wal_.durable_position().sequence;
  auto closed = wal_.close();
  write_durable(closed ? pending_end_ : durable);
  return closed;
}

void Acknowledgments::watch() {
  constexpr std::chrono::milliseconds kInterval{1};
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait(lock, [this] { return stopping_ || !pending_.empty(); });
    lock.unlock();
    write_durable(wal_.durable_position().sequence);
    lock.lock();
    changed_.wait_for(lock, kInterval, [this] { return stopping_; });
  }
}

void Acknowledgments::stop_watching() {
  if (!watcher_.joinable()) {
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  watcher_.join();
}

void Acknowledgments::write_durable(Sequence durable) {
  std::vector<Position> frames;
  Sequence end = 0;
  {
    const std::lock_guard lock(mutex_);
    // A frame is durable as a whole, or not.
    while (!pending_.empty()) {
      const Sequence frame_end = pending_.size() > 1 ? pending_[1].sequence : pending_end_;
      if (frame_end > durable) {
        break;
      }
      frames.push_back(pending_.front());
      pending_.pop_front();
      end = frame_end;
    }
  }
  for (std::size_t i = 0; i < frames.size(); ++i) {
    print(frames[i], frames[i].sequence, i + 1 < frames.size() ? frames[i + 1].sequence : end);
  }
  flush();
}

void Acknowledgments::print(const Position& frame, Sequence sequence, Sequence end) {
  for (; sequence < end; ++sequence) {
    fmt::format_to(std::back_inserter(output_.text()), "{}\t{}:{}\n", sequence, frame.segment_id,
                   frame.offset);
    output_.write_if_full();
  }
}

void Acknowledgments::flush() {
  if (!output_.flush()) {
    failure_.store(output_.failure());
  }
}

}  // namespace nori::cli
