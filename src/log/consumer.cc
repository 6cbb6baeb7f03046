#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <thread>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"
#include "log/consumer_impl.h"
#include "log/derived_places.h"
#include "log/durable_mark.h"
#include "log/log_scan.h"
#include "log/ring_view.h"
#include "segment/segment_name.h"
#include "segment/segment_reader.h"

namespace nori {
namespace {

using Clock = BackgroundTask::Clock;

// At most one write of the cursor, and its sync, in this time.
constexpr std::chrono::milliseconds kWriteInterval{5};
// How soon it is seen that another process has dropped a cursor.
constexpr std::chrono::milliseconds kDropPoll{100};
constexpr std::chrono::milliseconds kMarkPoll{1};

TimePoint time_of(std::uint64_t ms) {
  return TimePoint{std::chrono::milliseconds{static_cast<std::int64_t>(ms)}};
}

}  // namespace

// --- opening -------------------------------------------------------------------------------------

Result<std::unique_ptr<Consumer::Impl>> Consumer::Impl::open(Source source, std::string_view name,
                                                             const ConsumerOptions& options) {
  NORI_TRY(check_consumer_name(name));
  std::unique_ptr<Impl> consumer(new Impl(std::move(source), name, options));
  NORI_TRY(consumer->take_cursor());
  consumer->has_cap_ = consumer->value_.lag_bytes_max != 0;
  if (auto& threads = consumer->source_.threads; threads != nullptr) {
    consumer->task_ = std::make_unique<BackgroundTask>(
        threads, [impl = consumer.get()] { return impl->background_step(); });
    if (consumer->has_cap_) {
      consumer->task_->wake();
    }
  }
  return consumer;
}

Result<void> Consumer::Impl::take_cursor() {
  cursors_ = NORI_TRY(make_cursors(*source_.directory));
  auto lock = cursors_->lock(cursor_lock_name(name_), source_.file_system.holder_description());
  if (!lock && lock.error().code == ErrorCode::locked) {
    return make_error(ErrorCode::locked, "consumer {}: somebody has it: {}", name_,
                      lock.error().message);
  }
  lock_ = NORI_TRY(std::move(lock));
  const auto found = NORI_TRY(read_cursor(*cursors_, name_));
  if (!found) {
    value_.log_id = source_.log_id;
    value_.created_ms = source_.file_system.now_ms();
    value_.lag_bytes_max = options_.max_lag_bytes.value_or(0);
    return place_at(options_.from);
  }
  if (found->log_id != source_.log_id) {
    return make_error(ErrorCode::damaged, "{}: a cursor of another log; drop it, or move it away",
                      (cursors_->path() / cursor_file_name(name_)).string());
  }
  value_ = *found;
  file_id_ = NORI_TRY(cursors_->id_of(cursor_file_name(name_)));
  pending_ = value_.position;
  written_ = pending_.sequence;
  durable_seen_.store(written_);
  reader_ = NORI_TRY(source_.log->open_reader(pending_.sequence, {.visible = options_.visible}));
  if (const auto cap = options_.max_lag_bytes; cap && *cap != value_.lag_bytes_max) {
    const auto guard =
        NORI_TRY(lock_cursors(source_.file_system, *source_.directory, options_.timeout));
    auto value = value_;
    value.lag_bytes_max = *cap;
    return write(value, true);
  }
  return {};
}

// --- where it may stand --------------------------------------------------------------------------

Result<Sequence> Consumer::Impl::mark_on_disk() const {
  auto ring = RingView::open(*source_.directory, source_.log_id);
  if (!ring && ring.error().code != ErrorCode::permission) {
    return std::unexpected(std::move(ring).error());
  }
  return durable_mark_on_disk(*source_.directory, source_.log_id, ring ? ring->get() : nullptr);
}

// A cursor never runs ahead of what is durable.
Result<void> Consumer::Impl::wait_durable(Sequence target) {
  if (target <= durable_seen_.load(std::memory_order_relaxed)) [[likely]] {
    return {};
  }
  if (!source_.is_read_only) {
    NORI_TRY(source_.log->commit(target));
    see_durable(target);
    return {};
  }
  const auto deadline = Clock::now() + options_.timeout;
  for (;;) {
    see_durable(NORI_TRY(mark_on_disk()));
    if (target <= durable_seen_.load()) {
      return {};
    }
    if (Clock::now() >= deadline) {
      return make_error(ErrorCode::busy,
                        "consumer {}: record {} is not durable yet; commit it later", name_,
                        target - 1);
    }
    std::this_thread::sleep_for(kMarkPoll);
  }
}

void Consumer::Impl::see_durable(Sequence sequence) noexcept {
  auto seen = durable_seen_.load(std::memory_order_relaxed);
  while (seen < sequence && !durable_seen_.compare_exchange_weak(seen, sequence)) {
  }
}

// The place that is meant, everything before it durable.
Result<ReadFrom> Consumer::Impl::locate(const ConsumerStart& start) {
  if (std::holds_alternative<Begin>(start)) {
    return begin_of_log;  // and everything before the first record left is durable
  }
  Sequence sequence = 0;
  if (const auto* const position = std::get_if<Position>(&start); position != nullptr) {
    sequence = position->sequence;
  } else if (const auto* const number = std::get_if<Sequence>(&start); number != nullptr) {
    sequence = *number;
  } else if (const auto* const time = std::get_if<TimePoint>(&start); time != nullptr) {
    sequence = NORI_TRY(source_.log->position_at(*time)).sequence;
  } else {
    sequence = source_.log->current_position().sequence;
    if (source_.is_read_only) {
      sequence = std::max(NORI_TRY(mark_on_disk()), durable_seen_.load());
    }
  }
  NORI_TRY(wait_durable(sequence));
  return sequence;
}

// Cursor and reader, durably.
Result<void> Consumer::Impl::place_at(const ConsumerStart& start) {
  const auto from = NORI_TRY(locate(start));
  const std::lock_guard writing(write_mutex_);
  // From here on nothing is deleted that is found here.
  const auto guard =
      NORI_TRY(lock_cursors(source_.file_system, *source_.directory, options_.timeout));
  auto reader = NORI_TRY(source_.log->open_reader(from, {.visible = options_.visible}));
  // Also where somebody else has made cursors/: they may not have come so far.
  NORI_TRY(source_.directory->sync());
  const auto before = value_;
  const bool was_there = file_id_.has_value();
  auto value = before;
  value.position = reader->position();
  if (auto written = write(value, true); !written) {
    // It may have its name: who deletes goes by that.
    if (was_there) {
      static_cast<void>(write(before, true));
    }
    return written;
  }
  see_durable(value.position.sequence);
  reader_ = std::move(reader);
  const std::lock_guard lock(mutex_);
  pending_ = value.position;
  written_ = pending_.sequence;
  return {};
}

// --- the file ------------------------------------------------------------------------------------

// With write_mutex_ and, where deletion is to be kept out, cursors.lock.
Result<void> Consumer::Impl::write(const CursorValue& value, bool durable) {
  auto stamped = value;
  stamped.committed_ms = source_.file_system.now_ms();
  const auto id = NORI_TRY(source_.observer->timed_sync(
      cursor_file_name(name_), [&] { return prepare_cursor(*cursors_, name_, stamped); }));
  NORI_TRY(look_for_cursor());
  is_durable_ = false;
  NORI_TRY(publish_cursor(*cursors_, name_));
  file_id_ = id;
  value_ = stamped;
  return durable ? sync_cursors() : Result<void>{};
}

Result<void> Consumer::Impl::sync_cursors() {
  auto synced = source_.observer->timed_sync(kCursorsName, [&] { return cursors_->sync(); });
  is_durable_ = synced.has_value();
  is_doubtful_ = !synced;
  return synced;
}

// Whether NAME.cursor is still the one that was written last.
Result<void> Consumer::Impl::look_for_cursor() {
  if (!file_id_) {
    return {};
  }
  const auto now = cursors_->id_of(cursor_file_name(name_));
  if (now ? *now == *file_id_ : now.error().system_errno != ENOENT) {
    return now ? Result<void>{} : std::unexpected(now.error());
  }
  source_.dropped->store(true);
  return gone();
}

Result<void> Consumer::Impl::write_pending(bool durable, std::chrono::milliseconds lock_timeout) {
  const std::lock_guard writing(write_mutex_);
  NORI_TRY(check_not_dropped());
  auto value = value_;
  bool is_new = is_doubtful_;
  {
    const std::lock_guard lock(mutex_);
    is_new = is_new || pending_.sequence > written_;
    value.position = pending_;
  }
  if (!is_new) {
    return durable && !is_durable_ ? sync_cursors() : Result<void>{};
  }
  std::unique_ptr<io::Lock> guard;
  if (value.lag_bytes_max != 0) {
    // So that it is not made anew just after it was dropped.
    guard = NORI_TRY(lock_cursors(source_.file_system, *source_.directory, lock_timeout));
  }
  NORI_TRY(write(value, durable));
  const std::lock_guard lock(mutex_);
  written_ = value.position.sequence;
  return {};
}

std::optional<Clock::time_point> Consumer::Impl::background_step() {
  const auto now = Clock::now();
  bool is_due = false;
  {
    const std::lock_guard lock(mutex_);
    is_due = pending_.sequence > written_;
    if (is_due && now < next_write_at_) {
      return next_write_at_;
    }
    next_write_at_ = now + kWriteInterval;
  }
  Result<void> written;
  try {
    if (is_due) {
      written = write_pending(false, std::chrono::milliseconds::zero());
    } else {
      const std::lock_guard writing(write_mutex_);
      written = look_for_cursor();
    }
  } catch (const std::bad_alloc&) {
    written = std::unexpected(Error{.code = ErrorCode::io, .message = "out of memory"});
  }
  source_.observer->events.deliver();
  const std::lock_guard lock(mutex_);
  if (!written && written.error().code == ErrorCode::locked) {
    return next_write_at_;  // somebody deletes
  }
  if (written && pending_.sequence > written_) {
    return next_write_at_;
  }
  if (!written && !source_.dropped->load()) {
    background_error_ = std::move(written).error();
  }
  is_scheduled_ = false;
  const bool is_watched = has_cap_ && !source_.dropped->load();
  return is_watched ? std::optional(now + kDropPoll) : std::nullopt;
}

// --- what is called ------------------------------------------------------------------------------

std::unexpected<Error> Consumer::Impl::gone() const {
  return make_error(ErrorCode::gone,
                    "consumer {}: its cursor was dropped, as it held back more than it may, or was "
                    "removed; open it again to begin anew",
                    name_);
}

Result<void> Consumer::Impl::check_not_dropped() const {
  return source_.dropped->load(std::memory_order_relaxed) ? Result<void>(gone()) : Result<void>{};
}

Result<void> Consumer::Impl::check_usable() const {
  if (is_of_parent()) [[unlikely]] {
    return make_error(ErrorCode::closed,
                      "consumer {}: this process is a fork of the one that opened it; open the log "
                      "again here",
                      name_);
  }
  if (closed_.load(std::memory_order_relaxed)) [[unlikely]] {
    return make_error(ErrorCode::closed, "consumer {}: it was closed; open it again", name_);
  }
  return check_not_dropped();
}

// What was committed unread may be deleted before the reader comes to it: it goes on behind that.
Result<bool> Consumer::Impl::passes_over(const Error& error) {
  const auto done = committed();
  if (error.code != ErrorCode::gone || reader_->position() >= done) {
    return false;
  }
  reader_ = NORI_TRY(source_.log->open_reader(done.sequence, {.visible = options_.visible}));
  return true;
}

Result<std::optional<Entry>> Consumer::Impl::next() {
  NORI_TRY(check_usable());
  NORI_TRY(source_.log->check_open());
  auto entry = reader_->next();
  if (!entry && NORI_TRY(passes_over(entry.error()))) [[unlikely]] {
    entry = reader_->next();
  }
  if (entry && *entry) [[likely]] {
    if (options_.visible == Visible::durable) {
      see_durable((*entry)->sequence + 1);
    }
    return entry;
  }
  if (has_cap_) {
    const std::lock_guard writing(write_mutex_);
    NORI_TRY(look_for_cursor());
  }
  return entry;
}

Result<bool> Consumer::Impl::follow(std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  for (;;) {
    NORI_TRY(check_usable());
    NORI_TRY(source_.log->check_open());
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        std::max(deadline - Clock::now(), Clock::duration::zero()));
    auto followed = reader_->follow(std::min(left, kDropPoll));
    if (!followed && NORI_TRY(passes_over(followed.error()))) {
      continue;
    }
    if (NORI_TRY(std::move(followed))) {
      return true;
    }
    if (left <= kDropPoll) {
      return false;
    }
  }
}

Result<void> Consumer::Impl::commit(const Position& position) {
  NORI_TRY(check_usable());
  NORI_TRY(wait_durable(position.sequence));
  std::optional<Error> error;
  bool wakes = false;
  {
    const std::lock_guard lock(mutex_);
    if (position.sequence > pending_.sequence) {
      pending_ = position;
    }
    error = std::exchange(background_error_, std::nullopt);
    if (task_ != nullptr && !is_scheduled_ && pending_.sequence > written_) {
      is_scheduled_ = wakes = true;
    }
  }
  if (wakes) {
    task_->wake();
  }
  return error ? std::unexpected(*std::move(error)) : Result<void>{};
}

Result<void> Consumer::Impl::flush() {
  NORI_TRY(check_usable());
  {
    const std::lock_guard lock(mutex_);
    background_error_.reset();  // what it could not write is written now, or answers for itself
  }
  return write_pending(true, options_.timeout);
}

Position Consumer::Impl::committed() const {
  if (is_of_parent()) {
    return {};
  }
  const std::lock_guard lock(mutex_);
  return pending_;
}

Result<void> Consumer::Impl::seek(const ConsumerStart& to) {
  NORI_TRY(check_usable());
  NORI_TRY(source_.log->check_open());
  return place_at(to);
}

Result<ConsumerLag> Consumer::Impl::lag() const {
  NORI_TRY(check_usable());
  NORI_TRY(source_.log->check_open());
  const auto done = committed();
  auto end = source_.log->current_position();
  if (source_.is_read_only) {
    end = {.segment_id = kCountMax,
           .offset = 0,
           .sequence = std::max(NORI_TRY(mark_on_disk()), durable_seen_.load())};
  }
  ConsumerLag lag;
  if (end.sequence <= done.sequence) {
    return lag;
  }
  lag.records = end.sequence - done.sequence;
  const auto segments = NORI_TRY(list_log(*source_.directory)).segments;
  for (const auto& file : segments) {
    if (file.last < done.segment_id || file.first > end.segment_id) {
      continue;
    }
    const auto segment = NORI_TRY(SegmentReader::open_if_there(*source_.directory, file));
    if (segment != nullptr) {
      const auto from = file.first == done.segment_id ? done.offset : 0;
      const auto to = file.first == end.segment_id ? end.offset : NORI_TRY(segment->size());
      lag.bytes += to - std::min(from, to);
    }
  }
  const auto reader = NORI_TRY(source_.log->open_reader(done.sequence, {}));
  if (const auto entry = NORI_TRY(reader->next()); entry) {
    const auto since = time_of(source_.file_system.now_ms()) - entry->time;
    lag.time = std::max(std::chrono::duration_cast<std::chrono::milliseconds>(since),
                        std::chrono::milliseconds::zero());
  }
  return lag;
}

Result<void> Consumer::Impl::close() {
  NORI_TRY(check_usable());
  if (task_ != nullptr) {
    task_->end();
  }
  // Whatever happens, std::bad_alloc included.
  struct Release {
    Impl& consumer;
    ~Release() {
      consumer.closed_.store(true);
      consumer.lock_.reset();
    }
  } const release{*this};
  return write_pending(true, options_.timeout);
}

Consumer::Impl::~Impl() = default;

// --- Consumer ------------------------------------------------------------------------------------

Consumer::Consumer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Consumer::Consumer(Consumer&&) noexcept = default;

Consumer& Consumer::operator=(Consumer&& other) noexcept {
  if (this != &other) {
    finish();
    impl_ = std::move(other.impl_);
  }
  return *this;
}

Consumer::~Consumer() { finish(); }

void Consumer::finish() noexcept {
  if (impl_ == nullptr) {
    return;
  }
  if (impl_->is_of_parent()) {
    // It belongs to threads and locks that this process does not have.
    static_cast<void>(impl_.release());
    return;
  }
  const EventDelivery told(impl_->events());
  try {
    static_cast<void>(impl_->close());
  } catch (const std::bad_alloc&) {
    return;  // what was committed since the last write is read again
  }
}

Result<std::optional<Entry>> Consumer::next() {
  auto entry = impl_->next();
  if (!entry) [[unlikely]] {
    impl_->events().deliver();
  }
  return entry;
}

Result<bool> Consumer::follow(std::chrono::milliseconds timeout) {
  const EventDelivery told(impl_->events());
  return impl_->follow(timeout);
}

Position Consumer::position() const noexcept { return impl_->position(); }

Result<void> Consumer::commit(const Position& position) {
  const EventDelivery told(impl_->events());
  return impl_->commit(position);
}

Result<void> Consumer::flush() {
  const EventDelivery told(impl_->events());
  return impl_->flush();
}

Position Consumer::committed() const { return impl_->committed(); }

Result<void> Consumer::seek(ConsumerStart to) {
  const EventDelivery told(impl_->events());
  return impl_->seek(to);
}

Result<ConsumerLag> Consumer::lag() const { return impl_->lag(); }

Result<void> Consumer::close() {
  const EventDelivery told(impl_->events());
  return impl_->close();
}

// --- whoever has them ----------------------------------------------------------------------------

Result<std::vector<ConsumerInfo>> list_consumers(io::Directory& directory, const LogId& log_id) {
  std::vector<ConsumerInfo> consumers;
  const auto cursors = NORI_TRY(find_cursors(directory));
  if (cursors == nullptr) {
    return consumers;
  }
  for (auto& [name, value] : NORI_TRY(read_cursors(*cursors))) {
    ConsumerInfo info;
    info.name = std::move(name);
    if (!value) {
      info.unreadable = std::move(value).error();
    } else if (value->log_id != log_id) {
      info.unreadable = Error{.code = ErrorCode::damaged, .message = "a cursor of another log"};
    } else {
      info.position = value->position;
      info.created = time_of(value->created_ms);
      info.committed = time_of(value->committed_ms);
      info.max_lag_bytes = value->lag_bytes_max;
    }
    consumers.push_back(std::move(info));
  }
  return consumers;
}

Result<void> drop_consumer(io::FileSystem& file_system, io::Directory& directory,
                           std::string_view name, std::chrono::milliseconds timeout) {
  NORI_TRY(check_consumer_name(name));
  const auto none = [&] {
    return make_error(ErrorCode::gone, "{}: there is no consumer {}", directory.path().string(),
                      name);
  };
  const auto cursors = NORI_TRY(find_cursors(directory));
  if (cursors == nullptr) {
    return none();
  }
  const auto file = cursor_file_name(name);
  if (const auto id = cursors->id_of(file); !id) {
    return id.error().system_errno == ENOENT ? none() : std::unexpected(id.error());
  }
  const auto lock = cursors->lock(cursor_lock_name(name), file_system.holder_description());
  if (!lock) {
    return lock.error().code == ErrorCode::locked
               ? make_error(ErrorCode::locked, "consumer {}: somebody has it: {}", name,
                            lock.error().message)
               : std::unexpected(lock.error());
  }
  const auto guard = NORI_TRY(lock_cursors(file_system, directory, timeout));
  if (auto removed = cursors->remove(file); !removed && removed.error().system_errno != ENOENT) {
    return removed;
  }
  return cursors->sync();
}

}  // namespace nori
