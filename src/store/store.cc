// A write's path:
//
//   order_mutex_   the log takes the record, and with it its place; then the index takes the item,
//                  under index_mutex_: so the log's order is the map's
//   no lock        waiting for durability, together with others
//
// Who reads takes index_mutex_ shared, for a search or to hold the root of the index.

#include "nori/store.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/make_error.h"
#include "base/try.h"
#include "format/record.h"
#include "io/file_system.h"
#include "log/background_task.h"
#include "log/guarded_clock.h"
#include "store/checkpointer.h"
#include "store/contents.h"
#include "store/loader.h"
#include "store/view.h"

namespace nori {
namespace {

/// How many forgotten keys are taken out of the index while others wait.
constexpr std::size_t kForgottenAtOnce = 64;
constexpr std::chrono::seconds kRetryCheckpoint{1};
constexpr std::uint64_t kBytesMax = UINT32_MAX;

Result<void> check_sizes(const Record& record) {
  if (record.key.size() > kBytesMax || record.value.size() > kBytesMax) {
    return make_error(ErrorCode::too_large, "a key and a value are shorter than 4 GiB each");
  }
  return {};
}

WalOptions log_options(const StoreOptions& options) {
  auto wal = options.wal;
  if (wal.fsync.kind() == FsyncPolicy::Kind::always) {
    // The store waits itself, without its locks, so that others share the flush.
    wal.fsync = FsyncPolicy::os();
  }
  return wal;
}

Result<void> check(const StoreOptions& options) {
  const auto refuse = [&](std::string_view what) {
    return make_error(ErrorCode::invalid_argument, "{}: {}", options.wal.directory.string(), what);
  };
  const auto& retention = options.wal.retention;
  if (retention.max_age.count() != 0 || retention.max_bytes != 0) {
    return refuse("a store has no retention: its log goes by its snapshots");
  }
  if (options.checkpoints.garbage_ratio < 0) {
    return refuse("the checkpoints' garbage_ratio is negative");
  }
  return {};
}

}  // namespace

class Store::Impl {
 public:
  Impl(StoreOptions options, Wal wal, LoadedStore loaded)
      : options_(std::move(options)),
        file_system_(options_.wal.file_system != nullptr ? *options_.wal.file_system
                                                         : io::posix_file_system()),
        fork_generation_(io::fork_generation()),
        wal_(std::move(wal)),
        contents_(std::move(loaded.contents)),
        applied_end_(loaded.end),
        versions_(*contents_.lives()),
        bytes_behind_(loaded.bytes_behind),
        snapshot_(loaded.recovery.snapshot),
        guarded_clock_(
            static_cast<std::uint64_t>(loaded.newest_ms != 0
                                           ? loaded.newest_ms
                                           : static_cast<std::int64_t>(file_system_.now_ms())),
            GuardedClock::Running::now()) {}
  ~Impl() { finish(); }

  Result<void> start();

  struct Condition {
    std::optional<Version> version;
  };
  Result<std::optional<Written>> write_one(const Record& record, Durability durability,
                                           const Condition* condition);
  Result<Written> write(const Batch& batch, Durability durability);

  Result<std::optional<StoredValue>> get(std::string_view key) const;
  Result<bool> contains(std::string_view key) const;
  Result<std::shared_ptr<const StoreView::Impl>> view() const;
  Result<Reader> subscribe(Sequence from, const ReadOptions& options) const {
    NORI_TRY(check_open());
    return wal_.read_from(from, options);
  }
  Result<Consumer> consumer(std::string_view name, const ConsumerOptions& options) {
    NORI_TRY(check_open());
    return wal_.consumer(name, options);
  }
  Result<void> sync() { return wal_.sync(); }
  Result<void> wait_durable(const Position& position) { return wal_.wait_durable(position); }
  Result<CheckpointReport> checkpoint(const Checkpointer::Request& request);
  Result<CheckpointReport> compact();
  StoreStats stats() const;
  const Wal& log() const noexcept { return wal_; }
  Result<void> close();

 private:
  [[nodiscard]] Result<void> check_open() const {
    if (closed_.load(std::memory_order_relaxed) || io::fork_generation() != fork_generation_)
        [[unlikely]] {
      return make_error(ErrorCode::closed, "{}: the store was closed, or this process is a fork",
                        options_.wal.directory.string());
    }
    return {};
  }
  [[nodiscard]] Result<void> check_usable() const {
    NORI_TRY(check_open());
    if (is_behind_) [[unlikely]] {
      return make_error(ErrorCode::io,
                        "{}: the log has a record that the store has not; open it again",
                        options_.wal.directory.string());
    }
    return {};
  }
  [[nodiscard]] std::int64_t now_ms() const {
    return options_.clock ? ms_of(options_.clock())
                          : static_cast<std::int64_t>(file_system_.now_ms());
  }
  [[nodiscard]] bool wants_durable(Durability durability) const {
    return durability == Durability::durable ||
           options_.wal.fsync.kind() == FsyncPolicy::Kind::always;
  }
  [[nodiscard]] Result<void> check_memory(std::uint64_t added, std::uint64_t replaced,
                                          std::uint64_t keys) const;
  [[nodiscard]] Result<void> find_epoch(const Position& position);
  [[nodiscard]] Result<Written> wait_if_wanted(Written written, const Position& at,
                                               Durability durability);
  // The log has it: the map must, or nothing may be written any more.
  template <typename Change>
  [[nodiscard]] Result<void> apply(const Appended& appended, std::uint64_t log_bytes,
                                   Change&& change);
  void note_live_bytes();
  void wake_if_due() noexcept;
  [[nodiscard]] bool checkpoint_is_due() const;
  void forget(const std::vector<const Item*>& expired);
  [[nodiscard]] std::optional<BackgroundTask::Clock::time_point> background_step() noexcept;
  void finish() noexcept;

  const StoreOptions options_;
  io::FileSystem& file_system_;
  const std::uint64_t fork_generation_;
  std::atomic<bool> closed_{false};
  Wal wal_;

  /// Held by whoever writes, from before the log takes a record until the index has.
  std::mutex order_mutex_;
  /// Held to change contents_, shared to read it. Inner lock.
  mutable std::shared_mutex index_mutex_;
  Contents contents_;
  Sequence applied_end_;  ///< contents_ is what the records before it made.

  // Guarded by order_mutex_.
  VersionGiver versions_;
  std::optional<Epoch> epoch_;  ///< Of what is written now.
  bool is_behind_ = false;      ///< The log has a record that contents_ has not.

  std::atomic<std::uint64_t> bytes_behind_;
  std::atomic<std::uint64_t> live_bytes_{0};

  /// Held for a whole checkpoint. Outer lock.
  std::mutex checkpoint_mutex_;
  std::unique_ptr<Checkpointer> checkpointer_;

  mutable std::mutex status_mutex_;
  std::optional<Sequence> snapshot_;
  std::uint64_t checkpoints_ = 0;
  std::optional<Error> checkpoint_failure_;
  GuardedClock guarded_clock_;

  std::unique_ptr<BackgroundTask> task_;
};

// --- Opening and closing
// --------------------------------------------------------------------------

Result<OpenedStore> Store::open(StoreOptions options) {
  NORI_TRY(check(options));
  auto opened = NORI_TRY(Wal::open(log_options(options)));
  const auto threads = std::clamp(
      options.open_threads != 0 ? options.open_threads : std::thread::hardware_concurrency(), 1U,
      64U);
  auto loaded = NORI_TRY(load_store(opened.wal, options.wal, threads));
  auto recovery = std::move(loaded.recovery);
  recovery.log = std::move(opened.recovery);
  loaded.recovery.snapshot = recovery.snapshot;
  auto impl = std::make_unique<Impl>(std::move(options), std::move(opened.wal), std::move(loaded));
  NORI_TRY(impl->start());
  return OpenedStore{.store = Store(std::move(impl)), .recovery = std::move(recovery)};
}

Result<void> Store::Impl::start() {
  note_live_bytes();
  if (options_.wal.mode == OpenMode::read_only) {
    return {};
  }
  checkpointer_ = NORI_TRY(Checkpointer::open(wal_, options_));
  if (options_.checkpoints.garbage_ratio > 0 && options_.wal.background_thread) {
    // A thread of its own: a checkpoint takes as long as it takes to write everything.
    task_ = std::make_unique<BackgroundTask>(std::make_shared<BackgroundThreads>(1),
                                             [this] { return background_step(); });
    wake_if_due();
  }
  return {};
}

Result<void> Store::Impl::close() {
  NORI_TRY(check_open());
  closed_.store(true);
  if (task_ != nullptr) {
    task_->end();
  }
  const std::scoped_lock lock(checkpoint_mutex_, order_mutex_);
  const auto cursor = checkpointer_ != nullptr ? checkpointer_->close() : Result<void>{};
  auto closed = wal_.close();
  return closed && !cursor ? cursor : closed;
}

void Store::Impl::finish() noexcept {
  if (io::fork_generation() != fork_generation_) {
    // The task's thread is the parent's, and who was changing the contents is not here to go on.
    static_cast<void>(task_.release());
    static_cast<void>(new (std::nothrow) Contents(std::move(contents_)));
    return;
  }
  try {
    if (!closed_.load()) {
      static_cast<void>(close());
    }
  } catch (...) {  // NOLINT(bugprone-empty-catch)
    // What could not be closed is recovered by the next opening.
  }
}

// --- Writing
// --------------------------------------------------------------------------------------

Result<void> Store::Impl::check_memory(std::uint64_t added, std::uint64_t replaced,
                                       std::uint64_t keys) const {
  // In the index, on average; twelve at the least.
  constexpr std::uint64_t kIndexBytes = 18;
  if (options_.memory_bytes_max == 0 || added <= replaced) {
    return {};
  }
  const auto now = contents_.memory_bytes();
  if (now + added + keys * kIndexBytes <= options_.memory_bytes_max + replaced) {
    return {};
  }
  return make_error(ErrorCode::too_large,
                    "{}: the store takes {} bytes of memory, and {} are allowed; remove keys, or "
                    "open it with a higher memory_bytes_max",
                    options_.wal.directory.string(), now, options_.memory_bytes_max);
}

// All that one opening writes has one epoch; its first record says which.
Result<void> Store::Impl::find_epoch(const Position& position) {
  if (!epoch_) {
    auto reader = NORI_TRY(wal_.read_from(position));
    const auto entry = NORI_TRY(reader.next());
    if (!entry) {
      return make_error(ErrorCode::io, "{}: record {} was appended, and is not there",
                        options_.wal.directory.string(), position.sequence);
    }
    epoch_ = entry->epoch;
  }
  return {};
}

template <typename Change>
Result<void> Store::Impl::apply(const Appended& appended, std::uint64_t log_bytes,
                                Change&& change) {
  is_behind_ = true;  // also if anything throws
  NORI_TRY(find_epoch(appended.position));
  {
    const std::lock_guard lock(index_mutex_);
    change();
    applied_end_ = appended.end.sequence;
  }
  is_behind_ = false;
  note_live_bytes();
  bytes_behind_.fetch_add(log_bytes, std::memory_order_relaxed);
  return {};
}

void Store::Impl::note_live_bytes() {
  const auto& sums = contents_.sums();
  live_bytes_.store(sums.key_bytes + sums.value_bytes, std::memory_order_relaxed);
}

Result<Written> Store::Impl::wait_if_wanted(Written written, const Position& at,
                                            Durability durability) {
  wake_if_due();
  if (wants_durable(durability)) {
    if (auto durable = wal_.wait_durable(written.end); !durable) {
      durable.error().position = at;
      return std::unexpected(std::move(durable).error());
    }
  }
  return written;
}

Result<std::optional<Written>> Store::Impl::write_one(const Record& record, Durability durability,
                                                      const Condition* condition) {
  NORI_TRY(check_open());
  NORI_TRY(check_sizes(record));
  const bool is_put = record.op == Operation::put;
  ItemRef item;
  if (is_put) {
    item = ItemRef(Item::make(record.key, record.value, record.expires_at));
  }
  Written written;
  Position at;
  {
    const std::lock_guard lock(order_mutex_);
    NORI_TRY(check_usable());
    if (condition != nullptr || options_.memory_bytes_max != 0) {
      const auto* const there = contents_.index().find(record.key);
      if (condition != nullptr) {
        const bool is_there = there != nullptr && !there->has_expired(now_ms());
        const auto version =
            is_there ? std::optional(contents_.lives()->version_of(*there)) : std::nullopt;
        if (version != condition->version) {
          return std::nullopt;
        }
      }
      if (is_put) {
        NORI_TRY(check_memory(item->memory_bytes(), there == nullptr ? 0 : there->memory_bytes(),
                              there == nullptr ? 1 : 0));
      }
    }
    const auto appended = NORI_TRY(wal_.append(record));
    NORI_TRY(apply(appended, log_bytes_of(record.key.size(), record.value.size()), [&] {
      if (is_put) {
        versions_.give(*item, *epoch_, appended.sequence);
        item = contents_.put(std::move(item));
      } else {
        item = contents_.remove(record.key);
      }
    }));
    at = appended.position;
    written = {.version = {.epoch = *epoch_, .sequence = appended.sequence}, .end = appended.end};
  }
  return std::optional(NORI_TRY(wait_if_wanted(written, at, durability)));
}

Result<Written> Store::Impl::write(const Batch& batch, Durability durability) {
  NORI_TRY(check_open());
  // Decoded, and copied, before anybody has to wait.
  std::vector<ItemRef> items;
  items.reserve(batch.record_count());
  std::vector<std::string_view> removed;
  std::uint64_t item_bytes = 0;
  std::uint64_t log_bytes = 0;
  auto payload = as_byte_view(batch.encoded());
  while (!payload.empty()) {
    const auto stored = decode_record(payload);
    if (!stored) {
      return make_error(ErrorCode::invalid_argument, "the batch is not whole");
    }
    const auto& record = stored->record;
    NORI_TRY(check_sizes(record));
    log_bytes += log_bytes_of(record.key.size(), record.value.size());
    if (record.op == Operation::put) {
      items.emplace_back(Item::make(record.key, record.value, record.expires_at));
      item_bytes += items.back()->memory_bytes();
    } else {
      items.emplace_back();
      removed.push_back(record.key);
    }
  }
  Written written;
  Position at;
  {
    const std::lock_guard lock(order_mutex_);
    NORI_TRY(check_usable());
    if (options_.memory_bytes_max != 0) {
      std::uint64_t replaced = 0;
      std::uint64_t keys = 0;
      for (const auto& item : items) {
        const auto* const there = item ? contents_.index().find(item->key()) : nullptr;
        replaced += there != nullptr ? there->memory_bytes() : 0;
        keys += item && there == nullptr ? 1 : 0;
      }
      NORI_TRY(check_memory(item_bytes, replaced, keys));
    }
    const auto appended = NORI_TRY(wal_.append(batch));
    NORI_TRY(apply(appended, log_bytes, [&] {
      auto sequence = appended.sequence;
      auto gone = removed.begin();
      OrderedIndex::Place place;
      for (auto& item : items) {
        if (item) {
          versions_.give(*item, *epoch_, sequence);
          item = contents_.put(std::move(item), place);
        } else {
          item = contents_.remove(*gone++);
          place = {};
        }
        ++sequence;
      }
    }));
    at = appended.position;
    written = {.version = {.epoch = *epoch_, .sequence = appended.end.sequence - 1},
               .end = appended.end};
  }
  return wait_if_wanted(written, at, durability);
}

// --- Reading
// --------------------------------------------------------------------------------------

Result<std::optional<StoredValue>> Store::Impl::get(std::string_view key) const {
  NORI_TRY(check_open());
  std::optional<StoredValue> found;
  {
    const std::shared_lock lock(index_mutex_);
    auto* const item = contents_.index().find(key);
    if (item == nullptr) {
      return found;
    }
    item->add_reference();
    found = StoredValue(item, contents_.lives()->version_of(*item));
  }
  if (found->item_->may_expire() && found->item_->has_expired(now_ms())) {
    found.reset();
  }
  return found;
}

Result<bool> Store::Impl::contains(std::string_view key) const {
  return NORI_TRY(get(key)).has_value();
}

Result<std::shared_ptr<const StoreView::Impl>> Store::Impl::view() const {
  NORI_TRY(check_open());
  auto view = std::make_shared<StoreView::Impl>();
  view->now_ms = now_ms();
  const std::shared_lock lock(index_mutex_);
  view->index = contents_.index().view();
  view->lives = contents_.lives();
  view->sequence = applied_end_;
  return view;
}

StoreStats Store::Impl::stats() const {
  StoreStats stats;
  stats.log = wal_.stats();
  if (io::fork_generation() != fork_generation_) {
    return stats;  // the locks may be held by threads that are not here
  }
  {
    const std::shared_lock lock(index_mutex_);
    const auto& sums = contents_.sums();
    stats.keys = contents_.index().size();
    stats.key_bytes = sums.key_bytes;
    stats.value_bytes = sums.value_bytes;
    stats.memory_bytes = contents_.memory_bytes();
  }
  stats.log_bytes_behind = bytes_behind_.load();
  {
    const std::lock_guard lock(status_mutex_);
    stats.snapshot = snapshot_;
    stats.checkpoints = checkpoints_;
    stats.checkpoint_failure = checkpoint_failure_;
  }
  return stats;
}

// --- Checkpoints
// ----------------------------------------------------------------------------------

Result<CheckpointReport> Store::Impl::checkpoint(const Checkpointer::Request& request) {
  NORI_TRY(check_open());
  const std::lock_guard lock(checkpoint_mutex_);
  NORI_TRY(check_open());
  if (checkpointer_ == nullptr) {
    return make_error(ErrorCode::invalid_argument, "{}: the store was opened read-only",
                      options_.wal.directory.string());
  }
  const auto bytes_before = bytes_behind_.load();
  const auto view = NORI_TRY(this->view());
  // What reads do not see any more, and what no jump of their clock has hidden.
  auto expired_ms = now_ms();
  {
    const std::lock_guard status(status_mutex_);
    const auto guarded = static_cast<std::int64_t>(
        guarded_clock_.now_ms(static_cast<std::uint64_t>(std::max<std::int64_t>(expired_ms, 0)),
                              GuardedClock::Running::now()));
    expired_ms = std::min(expired_ms, guarded);
  }
  std::vector<const Item*> expired;
  auto report = NORI_TRY(checkpointer_->write(*view, expired_ms, request, expired));
  bytes_behind_.fetch_sub(bytes_before);
  {
    const std::lock_guard status(status_mutex_);
    snapshot_ = report.sequence;
    ++checkpoints_;
  }
  forget(expired);
  return report;
}

Result<CheckpointReport> Store::Impl::compact() {
  NORI_TRY(check_open());
  if (options_.wal.mode != OpenMode::read_only) {
    NORI_TRY(wal_.rotate());  // what is in the active segment can go too then
  }
  return checkpoint({.keep = Checkpointer::Keep::only_this, .delete_segments = true});
}

// Unless it was written again since.
void Store::Impl::forget(const std::vector<const Item*>& expired) {
  for (std::size_t i = 0; i < expired.size();) {
    std::vector<ItemRef> gone;  // freed without the locks
    const std::lock_guard order(order_mutex_);
    const std::lock_guard lock(index_mutex_);
    for (const auto end = std::min(i + kForgottenAtOnce, expired.size()); i < end; ++i) {
      if (contents_.index().find(expired[i]->key()) == expired[i]) {
        gone.push_back(contents_.remove(expired[i]->key()));
      }
    }
    note_live_bytes();
  }
}

bool Store::Impl::checkpoint_is_due() const {
  const auto& policy = options_.checkpoints;
  const auto behind = bytes_behind_.load(std::memory_order_relaxed);
  const auto live = live_bytes_.load(std::memory_order_relaxed);
  return behind >= policy.log_bytes_min && behind > live &&
         static_cast<double>(behind - live) >= policy.garbage_ratio * static_cast<double>(live);
}

void Store::Impl::wake_if_due() noexcept {
  if (task_ != nullptr && checkpoint_is_due()) [[unlikely]] {
    task_->wake();
  }
}

std::optional<BackgroundTask::Clock::time_point> Store::Impl::background_step() noexcept {
  if (closed_.load() || !checkpoint_is_due()) {
    return std::nullopt;
  }
  Result<CheckpointReport> done;
  try {
    done = checkpoint({.delete_segments = options_.checkpoints.delete_segments});
  } catch (const std::exception& thrown) {
    done = std::unexpected(Error{.code = ErrorCode::io, .message = thrown.what()});
  }
  const std::lock_guard lock(status_mutex_);
  if (done) {
    checkpoint_failure_.reset();
    return std::nullopt;
  }
  checkpoint_failure_ = std::move(done).error();
  return BackgroundTask::Clock::now() + kRetryCheckpoint;
}

// --- Store
// ----------------------------------------------------------------------------------------

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

namespace {

Record put_of(std::string_view key, std::string_view value, const WriteOptions& options) {
  auto record = Record::put(key, value);
  record.expires_at = options.expires_at;
  return record;
}

}  // namespace

Result<Written> Store::put(std::string_view key, std::string_view value,
                           const WriteOptions& options) {
  return *NORI_TRY(impl_->write_one(put_of(key, value, options), options.durability, nullptr));
}

Result<Written> Store::remove(std::string_view key, const WriteOptions& options) {
  return *NORI_TRY(impl_->write_one(Record::remove(key), options.durability, nullptr));
}

Result<Written> Store::write(const Batch& batch, Durability durability) {
  return impl_->write(batch, durability);
}

Result<std::optional<Written>> Store::compare_and_set(std::string_view key,
                                                      std::optional<Version> expected,
                                                      std::string_view value,
                                                      const WriteOptions& options) {
  const Impl::Condition condition{expected};
  return impl_->write_one(put_of(key, value, options), options.durability, &condition);
}

Result<std::optional<Written>> Store::compare_and_remove(std::string_view key,
                                                         std::optional<Version> expected,
                                                         const WriteOptions& options) {
  const Impl::Condition condition{expected};
  return impl_->write_one(Record::remove(key), options.durability, &condition);
}

Result<std::optional<StoredValue>> Store::get(std::string_view key) const {
  return impl_->get(key);
}
Result<bool> Store::contains(std::string_view key) const { return impl_->contains(key); }
Result<StoreView> Store::view() const { return StoreView(NORI_TRY(impl_->view())); }
Result<Scan> Store::scan(const ScanOptions& options) const {
  return NORI_TRY(view()).scan(options);
}
Result<Reader> Store::subscribe(Sequence from, const ReadOptions& options) const {
  return impl_->subscribe(from, options);
}
Result<Consumer> Store::consumer(std::string_view name, const ConsumerOptions& options) {
  return impl_->consumer(name, options);
}
Result<void> Store::sync() { return impl_->sync(); }
Result<void> Store::wait_durable(const Position& position) { return impl_->wait_durable(position); }
Result<CheckpointReport> Store::checkpoint() { return impl_->checkpoint({}); }
Result<CheckpointReport> Store::compact() { return impl_->compact(); }
StoreStats Store::stats() const { return impl_->stats(); }
const Wal& Store::log() const noexcept { return impl_->log(); }
Result<void> Store::close() { return impl_->close(); }

// --- StoredValue
// ----------------------------------------------------------------------------------

StoredValue::StoredValue(const StoredValue& other) noexcept
    : item_(other.item_), version_(other.version_) {
  if (item_ != nullptr) {
    item_->add_reference();
  }
}
StoredValue::StoredValue(StoredValue&& other) noexcept
    : item_(std::exchange(other.item_, nullptr)), version_(other.version_) {}
StoredValue& StoredValue::operator=(StoredValue other) noexcept {
  std::swap(item_, other.item_);
  std::swap(version_, other.version_);
  return *this;
}
StoredValue::~StoredValue() {
  if (item_ != nullptr) {
    item_->release();
  }
}
std::string_view StoredValue::key() const noexcept { return item_->key(); }
std::string_view StoredValue::value() const noexcept { return item_->value(); }
std::optional<TimePoint> StoredValue::expires_at() const { return expiry_of(*item_); }

}  // namespace nori
