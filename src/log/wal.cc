#include "nori/wal.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <limits>
#include <mutex>
#include <new>
#include <span>
#include <thread>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"
#include "io/file_system.h"
#include "log/background_task.h"
#include "log/compaction.h"
#include "log/compaction_schedule.h"
#include "log/consumer_impl.h"
#include "log/durable_callbacks.h"
#include "log/durable_mark.h"
#include "log/io_choice.h"
#include "log/log_access.h"
#include "log/log_scan.h"
#include "log/log_writer.h"
#include "log/reader_impl.h"
#include "log/recovery.h"
#include "log/ring_view.h"
#include "log/segment_deletion.h"
#include "log/value_packer.h"
#include "observe/observer.h"
#include "segment/segment_files.h"
#include "segment/segment_name.h"
#include "segment/segment_reader.h"

namespace nori {
namespace {

constexpr std::uint64_t kSegmentBytesMin = 64 * kKiB;
constexpr std::uint64_t kSegmentBytesMax = 4 * kGiB;
constexpr std::uint64_t kRingBytesMin = 64 * kKiB;
constexpr std::uint64_t kRingBytesMax = kGiB;
constexpr std::chrono::minutes kWindowMax{1};
constexpr int kAttemptsMax = 100;
// How long close() may wait for a compaction that is held to its rate.
constexpr std::chrono::milliseconds kCompactionPause{20};
// How long a deletion waits for who makes a cursor, and the other way round.
constexpr std::chrono::seconds kCursorsLockTimeout{10};
// Retention in the background: how often, how soon after it was in somebody's way, and how much at
// a time, so that what shares its thread has its turn.
constexpr std::chrono::minutes kRetentionInterval{1};
constexpr std::chrono::milliseconds kRetentionRetry{100};
constexpr std::uint64_t kSegmentsPerStep = 64;

Result<void> check(const RetentionPolicy& policy) {
  if (policy.max_age < policy.max_age.zero()) {
    return make_error(ErrorCode::invalid_argument, "the retention's max_age is negative");
  }
  return {};
}

Result<void> check(const WalOptions& options) {
  const auto refuse = [&](std::string_view what) {
    return make_error(ErrorCode::invalid_argument, "{}: {}", options.directory.string(), what);
  };
  if (options.directory.empty()) {
    return refuse("no directory was named");
  }
  if (options.segment_bytes < kSegmentBytesMin || options.segment_bytes > kSegmentBytesMax) {
    return refuse("segment_bytes has to be from 64 KiB to 4 GiB");
  }
  if (options.ring_bytes != WalOptions::kNoRing &&
      (options.ring_bytes < kRingBytesMin || options.ring_bytes > kRingBytesMax)) {
    return refuse("ring_bytes has to be from 64 KiB to 1 GiB, or kNoRing");
  }
  if (options.fsync.window() < std::chrono::milliseconds::zero() ||
      options.fsync.window() > kWindowMax) {
    return refuse("the batch window has to be from 0 ms to one minute");
  }
  NORI_TRY(check(options.retention));
  const auto& compaction = options.compaction;
  if (compaction.garbage_ratio < 0 || compaction.garbage_ratio >= 1 ||
      compaction.idle < compaction.idle.zero() || compaction.memory_bytes < kMiB) {
    return refuse("compaction has a ratio from 0 to below 1, and a mebibyte of memory or more");
  }
  return {};
}

// Whatever a writer may come to write to, move or replace.
std::vector<std::string> written_names(const LogListing& listing) {
  auto names = listing.void_files;
  for (const auto name : {kLockName, kRingName, kQuarantineName, kCursorsName, kCursorsLockName}) {
    names.emplace_back(name);
  }
  for (const auto& file : listing.segments) {
    names.push_back(file.name());
  }
  return names;
}

// A new log in an empty directory: its first segment, durable on return.
Result<void> create_log(io::FileSystem& file_system, io::Directory& directory,
                        const WriteMode& mode, LogScan& scan) {
  SegmentHeader header;
  for (std::size_t i = 0; i < header.log_id.bytes.size(); i += 8) {
    store_le(&header.log_id.bytes[i], file_system.random_bits());
  }
  header.created_ms = file_system.now_ms();
  header.first_offset = mode.block_bytes;
  NORI_TRY(create_segment(directory, header, mode));
  scan = LogScan{};
  scan.log_id = header.log_id;
  scan.end = {.segment_id = 0, .offset = header.first_offset, .ring_base = 0};
  scan.end_segment.first_offset = header.first_offset;
  scan.end_segment.has_file = true;
  scan.end_summary = SummaryBuilder(0);
  scan.info.created = true;
  return {};
}

}  // namespace

class Wal::Impl final : public DurableCallbacks::Log, public ConsumerLog {
 public:
  static Result<std::unique_ptr<Impl>> open(WalOptions options, std::shared_ptr<Observer> observer);
  ~Impl() override;

  Result<Appended> append(const Record& record, Durability durability, bool may_wait);
  Result<Appended> append(const Batch& batch, Durability durability, bool may_wait);
  Result<void> sync();
  Result<void> commit(Sequence target) override;
  Result<void> when_durable(Sequence target, DurableCallback callback);
  Result<void> rotate();
  Result<std::uint64_t> delete_segments_before(const Position& position);
  void note_deletions();
  Result<CompactionReport> compact(const CompactionOptions& options);
  void start_compaction();
  std::optional<BackgroundTask::Clock::time_point> compaction_step();
  [[nodiscard]] std::uint64_t bytes_before_segment(std::uint64_t segment_id) const;
  Result<std::uint64_t> apply_retention(const RetentionPolicy& policy);
  Result<Deletable> deletable(const std::optional<Position>& before, const RetentionPolicy& policy);
  Result<Reader> read_from(const ReadFrom& from, ReadOptions options);
  Result<std::unique_ptr<Reader::Impl>> open_reader(const ReadFrom& from,
                                                    ReadOptions options) override;
  Result<Position> position_at(TimePoint time) override;
  // What a consumer needs of the log, `self` being this.
  Consumer::Impl::Source consumer_source(std::shared_ptr<Impl> self, std::string_view name);
  Result<std::vector<ConsumerInfo>> consumers();
  Result<void> drop_consumer(std::string_view name);
  WalStats stats();
  Result<void> close();

  [[nodiscard]] Result<void> check_usable() const {
    if (closed_.load(std::memory_order_relaxed) || io::fork_generation() != fork_generation_)
        [[unlikely]] {
      return unusable();
    }
    return {};
  }
  [[nodiscard]] Result<void> check_open() const override { return check_usable(); }
  [[nodiscard]] Position current_position() const override;
  [[nodiscard]] Position durable_position() const;
  [[nodiscard]] const RetentionPolicy& retention() const { return options_.retention; }
  [[nodiscard]] const RecoveryInfo& recovery() const { return scan_.info; }
  [[nodiscard]] bool is_of_parent() const { return io::fork_generation() != fork_generation_; }
  [[nodiscard]] EventQueue& events() const { return observer_->events; }
  Result<LogAccess> access();
  // Closes, and drops the error: for destructors.
  void finish();
  // After a fork: what this holds belongs to threads and locks that this process does not have.
  void abandon();

 private:
  Impl(WalOptions options, std::shared_ptr<Observer> observer)
      : options_(std::move(options)),
        observer_(std::move(observer)),
        file_system_(options_.file_system != nullptr ? *options_.file_system
                                                     : io::posix_file_system()),
        epoch_bits_(file_system_.random_bits()),
        fork_generation_(io::fork_generation()) {}

  [[nodiscard]] Result<void> unusable() const;
  Result<LogScan> scan(const std::function<void(const RecoveryProgress&)>& on_progress);
  Result<void> open_for_writing();
  Result<void> check_target(Sequence target) const;
  [[nodiscard]] Sequence durable_sequence() const override;
  void deliver_events() override { observer_->events.deliver(); }
  Result<void> recover();
  Result<void> recover_once();
  Result<void> read_first_sequence(std::span<const SegmentFile> segments);
  Result<void> recover_again();
  Result<LogWriter*> writer();
  Result<LogWriter*> begin_writing();
  Result<void> check_writable() const;
  [[nodiscard]] std::uint64_t active_segment_id() const;
  Result<std::uint64_t> delete_segments(const SegmentDeletion::Request& request);
  void start_retention();
  [[nodiscard]] std::optional<BackgroundTask::Clock::time_point> retention_step();
  [[nodiscard]] std::shared_ptr<BackgroundThreads> background_threads();
  Result<std::unique_ptr<Reader::Impl>> open_reader(const ReadFrom& from, ReadOptions options,
                                                    std::shared_ptr<ReaderPlaces::Place> place);
  Result<Appended> append(const FrameBody& body, Durability durability, bool may_wait);
  Result<Appended> append_to(LogWriter& writer, const FrameBody& body, Durability durability,
                             bool may_wait);
  [[nodiscard]] Position scanned_end() const {
    return {.segment_id = scan_.end.segment_id,
            .offset = scan_.end.offset,
            .sequence = scan_.chain.next_sequence};
  }
  [[nodiscard]] bool is_read_only() const { return options_.mode == OpenMode::read_only; }
  [[nodiscard]] RingAccess ring_access() const {
    return is_read_only() ? RingAccess::if_permitted : RingAccess::required;
  }

  const WalOptions options_;
  const std::shared_ptr<Observer> observer_;
  io::FileSystem& file_system_;
  /// Who follows the log may have read the opening frame of a first write that came to fail.
  const std::uint64_t epoch_bits_;
  const std::uint64_t fork_generation_;
  std::atomic<bool> closed_{false};
  std::shared_ptr<io::Directory> directory_;
  std::unique_ptr<io::Lock> lock_;
  LogId log_id_;  ///< Since open; scan_'s is written again by recover_again().
  IoChoice io_;

  // What was found at open; guarded by begin_mutex_ until there is a writer, unchanged afterwards.
  mutable std::mutex begin_mutex_;
  LogScan scan_;
  bool is_open_for_writing_ = false;  ///< Opening succeeded: there is something to close.
  bool is_recovered_ = false;  ///< All that scan_ keeps is durable and ends at a block's end.
  std::size_t quarantined_told_ = 0;
  std::optional<Error> failure_;
  /// Readers have it too, also those made before there is a writer.
  const std::shared_ptr<FlushTurn> turn_ = std::make_shared<FlushTurn>();
  /// Set once the log is open. Before the writer, which wakes the task.
  std::unique_ptr<SegmentDeletion> deletion_;
  std::unique_ptr<BackgroundTask> retention_task_;
  std::unique_ptr<LogWriter> writer_owned_;
  std::atomic<LogWriter*> writer_{nullptr};

  /// Made with the log: its thread begins with the first callback.
  std::unique_ptr<DurableCallbacks> callbacks_ = std::make_unique<DurableCallbacks>(*this);

  std::mutex compaction_mutex_;
  std::optional<CompactionSchedule> compaction_schedule_;
  std::unique_ptr<BackgroundTask> compaction_task_;
  std::optional<Error> compaction_failure_;  ///< Guarded by background_mutex_.
  std::atomic<bool> is_closing_{false};

  std::atomic<Sequence> first_sequence_{0};  ///< As last read from the first segment left.
  std::atomic<std::uint64_t> segments_deleted_{0};
  mutable std::mutex background_mutex_;
  std::shared_ptr<BackgroundThreads> own_threads_;  ///< Made when they are needed.
  std::optional<Error> retention_failure_;
};

Result<std::unique_ptr<Wal::Impl>> Wal::Impl::open(WalOptions options,
                                                   std::shared_ptr<Observer> observer) {
  NORI_TRY(check(options));
  std::unique_ptr<Impl> log(new Impl(std::move(options), std::move(observer)));
  log->directory_ = NORI_TRY(log->file_system_.open_directory(
      log->options_.directory, log->options_.mode == OpenMode::create));
  if (!log->is_read_only()) {
    NORI_TRY(log->open_for_writing());
    NORI_TRY(log->read_first_sequence(log->scan_.listing.segments));
    log->log_id_ = log->scan_.log_id;
    log->is_open_for_writing_ = true;
    log->start_retention();
    log->start_compaction();
    return log;
  }
  log->scan_ = NORI_TRY(log->scan(log->options_.on_recovery_progress));
  if (log->scan_.blank) {
    return make_error(ErrorCode::not_a_log, "{}: there is no log here",
                      log->options_.directory.string());
  }
  log->log_id_ = log->scan_.log_id;
  // Beside a live writer it may be gone again.
  static_cast<void>(log->read_first_sequence(log->scan_.listing.segments));
  log->start_retention();
  return log;
}

// Where its header is damaged, what was known stays.
Result<void> Wal::Impl::read_first_sequence(std::span<const SegmentFile> segments) {
  if (segments.empty()) {
    return {};
  }
  const auto segment = NORI_TRY(SegmentReader::open(*directory_, segments.front()));
  if (segment->header_fits()) {
    first_sequence_.store(segment->header()->first_sequence);
  }
  return {};
}

// Reads the log and reports damage.
Result<LogScan> Wal::Impl::scan(const std::function<void(const RecoveryProgress&)>& on_progress) {
  auto scan = scan_log(*directory_, options_.verification, ring_access(), on_progress);
  DamageFound found;
  if (!scan && scan.error().code == ErrorCode::damaged) {
    found.reason = scan.error().message;
  } else if (scan && scan->damage) {
    found.segment_id = scan->damage->position->segment_id;
    found.offset = scan->damage->position->offset;
    found.reason = scan->info.reason;
  } else {
    return scan;
  }
  observer_->events.post(std::move(found));
  return scan;
}

Result<void> Wal::Impl::open_for_writing() {
  // Not even a lock file is left in a directory that is something else.
  const auto listing = NORI_TRY(list_log(*directory_));
  const bool is_blank =
      listing.segments.empty() && listing.foreign_segments.empty() && !listing.has_ring;
  if (is_blank && !listing.foreign_files.empty()) {
    return make_error(ErrorCode::not_a_log,
                      "{}: holds {} and no segment of a log; name an empty directory, or one that "
                      "holds a log",
                      options_.directory.string(), listing.foreign_files.front());
  }
  if (is_blank && options_.mode == OpenMode::existing) {
    return make_error(ErrorCode::not_a_log, "{}: there is no log here; open it with mode create",
                      options_.directory.string());
  }
  NORI_TRY(directory_->check_owner(written_names(listing)));
  lock_ = NORI_TRY(directory_->lock(kLockName, file_system_.holder_description()));
  scan_ = NORI_TRY(scan(options_.on_recovery_progress));
  if (scan_.blank && options_.mode == OpenMode::existing) {
    return make_error(
        ErrorCode::not_a_log,
        "{}: a log was being created here and has no record; open it with mode create",
        options_.directory.string());
  }
  if (scan_.damage) {
    return std::unexpected(*scan_.damage);
  }
  io_ = NORI_TRY(choose_io(*directory_, options_));
  if (scan_.blank) {
    NORI_TRY(create_log(file_system_, *directory_, io_.mode, scan_));
    is_recovered_ = true;
    return {};
  }
  const auto recovered = recover();
  // What lacks the space to be made whole can be read all the same; the first append tries again.
  if (!recovered && recovered.error().code != ErrorCode::no_space) {
    return recovered;
  }
  return {};
}

Result<void> Wal::Impl::recover() {
  const Stopwatch watch;
  const auto recovered = recover_once();
  observer_->note_space(SpaceNeed::opening, recovered);
  scan_.info.time_taken += std::chrono::duration_cast<std::chrono::microseconds>(watch.elapsed());
  return recovered;
}

Result<void> Wal::Impl::recover_once() {
  if (!scan_.closed_cleanly) {
    const auto recovered = recover_log(*directory_, scan_, io_.mode);
    const auto& info = scan_.info;
    for (; quarantined_told_ < info.quarantined.size(); ++quarantined_told_) {
      observer_->events.post(FileQuarantined{.file = info.quarantined[quarantined_told_]});
    }
    NORI_TRY(recovered);
    if (info.torn_tail) {
      observer_->events.post(
          TailCut{.at = *info.truncated_at, .bytes = info.bytes_truncated, .reason = info.reason});
    }
  }
  is_recovered_ = true;
  scan_.durable_mark = scan_.chain.next_sequence;
  turn_->durable.store(scan_.durable_mark);  // for readers that are open already
  return {};
}

// What open lacked the space for. The scan is made anew: recovery has changed it. Nobody deletes or
// replaces a segment meanwhile.
Result<void> Wal::Impl::recover_again() {
  const std::lock_guard lock(deletion_->mutex());
  auto found = NORI_TRY(scan({}));
  if (found.damage) {
    return std::unexpected(*found.damage);
  }
  found.info = std::move(scan_.info);
  scan_ = std::move(found);
  return recover();
}

Wal::Impl::~Impl() { finish(); }

void Wal::Impl::finish() {
  if (is_of_parent()) {
    abandon();
  } else if (is_open_for_writing_ && !closed_.load()) {
    try {
      static_cast<void>(close());
    } catch (const std::bad_alloc&) {
      return;  // released without a close frame, as by a killed process: opening it recovers
    }
  }
}

void Wal::Impl::abandon() {
  static_cast<void>(retention_task_.release());
  static_cast<void>(compaction_task_.release());
  static_cast<void>(writer_owned_.release());
  static_cast<void>(callbacks_.release());
}

Result<void> Wal::Impl::unusable() const {
  if (is_of_parent()) {
    return make_error(
        ErrorCode::closed,
        "{}: this process is a fork of the one that opened the log; open it again here",
        options_.directory.string());
  }
  return make_error(ErrorCode::closed, "{}: the log was closed; open it again",
                    options_.directory.string());
}

Result<LogWriter*> Wal::Impl::writer() {
  if (auto* writer = writer_.load(std::memory_order_acquire); writer != nullptr) [[likely]] {
    return writer;
  }
  return begin_writing();
}

Result<void> Wal::Impl::check_writable() const {
  NORI_TRY(check_usable());
  if (is_read_only()) {
    return make_error(ErrorCode::invalid_argument, "{}: the log was opened read-only",
                      options_.directory.string());
  }
  return {};
}

// The first write of this opening: what open could not do for want of space, then an epoch.
Result<LogWriter*> Wal::Impl::begin_writing() {
  NORI_TRY(check_writable());
  const std::lock_guard lock(begin_mutex_);
  if (auto* writer = writer_.load(); writer != nullptr) {
    return writer;
  }
  if (failure_) {
    return std::unexpected(*failure_);
  }
  const auto wake_tasks = [this] {
    for (const auto* const task : {&retention_task_, &compaction_task_}) {
      if (*task != nullptr) {
        (*task)->wake();
      }
    }
  };
  auto begun = [&]() -> Result<void> {
    if (!is_recovered_) {
      NORI_TRY(recover_again());
    }
    writer_owned_ = NORI_TRY(LogWriter::begin(file_system_, *directory_, scan_, epoch_bits_, io_,
                                              options_, turn_, observer_, wake_tasks));
    return {};
  }();
  observer_->note_space(SpaceNeed::opening, begun);
  if (!begun) {
    begun.error().position.reset();  // of damage: to who appends it would be the record's
    if (begun.error().code != ErrorCode::no_space) {
      failure_ = begun.error();
      observer_->events.post(LogFailed{.error = *failure_});
    }
    return std::unexpected(std::move(begun).error());
  }
  writer_.store(writer_owned_.get(), std::memory_order_release);
  return writer_owned_.get();
}

[[gnu::always_inline]] inline Result<Appended> Wal::Impl::append_to(LogWriter& writer,
                                                                    const FrameBody& body,
                                                                    Durability durability,
                                                                    bool may_wait) {
  auto appended = writer.append(body, may_wait);
  if (appended &&
      (durability == Durability::durable || options_.fsync.kind() == FsyncPolicy::Kind::always)) {
    if (auto committed = writer.commit(appended->end.sequence); !committed) {
      committed.error().position = appended->position;
      appended = std::unexpected(std::move(committed).error());
    }
  }
  return appended;  // the only thing returned, so that it is made where the caller has it
}

[[gnu::always_inline]] inline Result<Appended> Wal::Impl::append(const FrameBody& body,
                                                                 Durability durability,
                                                                 bool may_wait) {
  NORI_TRY(check_usable());
  auto* writer = NORI_TRY(this->writer());
  if (!writer->times_next_append()) [[likely]] {
    return append_to(*writer, body, durability, may_wait);
  }
  const Stopwatch watch;
  auto appended = append_to(*writer, body, durability, may_wait);
  if (appended) {
    observer_->appends.record(watch.elapsed());
  }
  return appended;
}

Result<void> Wal::Impl::sync() {
  NORI_TRY(check_usable());
  if (is_read_only()) {
    return {};  // it has appended nothing
  }
  if (const auto* writer = writer_.load(std::memory_order_acquire); writer != nullptr) {
    if (auto failure = writer->failure(); failure) {
      return std::unexpected(*std::move(failure));
    }
  }
  return commit(current_position().sequence);
}

Result<void> Wal::Impl::check_target(Sequence target) const {
  NORI_TRY(check_usable());
  if (turn_->durable.load(std::memory_order_acquire) >= target) {
    return {};
  }
  if (const auto end = current_position().sequence; target > end) {
    return make_error(ErrorCode::invalid_argument, "{}: record {} is beyond the log's end, {}",
                      options_.directory.string(), target, end);
  }
  return {};
}

Result<void> Wal::Impl::when_durable(Sequence target, DurableCallback callback) {
  NORI_TRY(check_target(target));
  return callbacks_->add(target, std::move(callback));
}

Sequence Wal::Impl::durable_sequence() const { return durable_position().sequence; }

Result<void> Wal::Impl::commit(Sequence target) {
  NORI_TRY(check_target(target));
  if (auto* writer = writer_.load(std::memory_order_acquire); writer != nullptr) {
    return writer->commit(target);
  }
  const std::lock_guard lock(begin_mutex_);
  if (failure_) {
    return std::unexpected(*failure_);
  }
  if (target <= scan_.durable_mark) {
    return {};
  }
  if (is_read_only()) {
    const auto ring = NORI_TRY(RingView::open(*directory_, log_id_));
    const auto mark = NORI_TRY(durable_mark_on_disk(*directory_, log_id_, ring.get()));
    if (target <= mark) {
      return {};
    }
    return make_error(ErrorCode::invalid_argument,
                      "{}: opened read-only: only its writer makes records from {} on durable",
                      options_.directory.string(), mark);
  }
  return recover_again();  // without room at open; everything is durable where that succeeds
}

Result<void> Wal::Impl::rotate() {
  NORI_TRY(check_usable());
  return NORI_TRY(writer())->rotate();
}

Position Wal::Impl::current_position() const {
  if (is_of_parent()) {
    return {};
  }
  if (const auto* writer = writer_.load(std::memory_order_acquire); writer != nullptr) {
    const auto end = writer->end();
    return {.segment_id = end.place.segment_id,
            .offset = end.place.offset,
            .sequence = end.chain.next_sequence};
  }
  const std::lock_guard lock(begin_mutex_);
  return scanned_end();
}

Position Wal::Impl::durable_position() const {
  if (is_of_parent()) {
    return {};
  }
  if (const auto* writer = writer_.load(std::memory_order_acquire); writer != nullptr) {
    return writer->durable_position();
  }
  const std::lock_guard lock(begin_mutex_);
  auto position = scanned_end();
  position.sequence = std::min(position.sequence, scan_.durable_mark);
  return position;
}

std::uint64_t Wal::Impl::active_segment_id() const {
  if (const auto* writer = writer_.load(std::memory_order_acquire); writer != nullptr) {
    return writer->named_segment_id();
  }
  const std::lock_guard lock(begin_mutex_);
  return scan_.end.segment_id;
}

// Those before an error count too.
void Wal::Impl::note_deletions() {
  segments_deleted_ += deletion_->take_count();
  auto first = first_sequence_.load();
  const auto left = deletion_->deleted_before();
  while (first < left && !first_sequence_.compare_exchange_weak(first, left)) {
  }
}

Result<std::uint64_t> Wal::Impl::delete_segments(const SegmentDeletion::Request& request) {
  const auto done = deletion_->run(request);
  note_deletions();
  return NORI_TRY(done).segments;
}

Result<std::uint64_t> Wal::Impl::delete_segments_before(const Position& position) {
  NORI_TRY(check_writable());
  SegmentDeletion::Request request{.before = position.sequence,
                                   .lock_timeout = kCursorsLockTimeout};
  // On a full disk this may be what makes room: what has a footer is durable in any case.
  if (auto durable = commit(position.sequence); !durable) {
    if (durable.error().code != ErrorCode::no_space) {
      return std::unexpected(std::move(durable).error());
    }
    request.not_durable = std::move(durable).error();
  }
  request.active_segment_id = active_segment_id();
  return delete_segments(request);
}

// What has a successor with a name is durable.
Result<std::uint64_t> Wal::Impl::apply_retention(const RetentionPolicy& policy) {
  NORI_TRY(check_writable());
  NORI_TRY(check(policy));
  return delete_segments({.active_segment_id = active_segment_id(),
                          .policy = policy,
                          .lock_timeout = kCursorsLockTimeout});
}

Result<Wal::Deletable> Wal::Impl::deletable(const std::optional<Position>& before,
                                            const RetentionPolicy& policy) {
  NORI_TRY(check_usable());
  NORI_TRY(check(policy));
  SegmentDeletion::Request request{.active_segment_id = active_segment_id(), .policy = policy};
  if (before) {
    request.before = before->sequence;
  }
  const auto planned = NORI_TRY(deletion_->plan(request));
  return Deletable{
      .segments = planned.segments,
      .bytes = planned.bytes,
      .first_sequence = planned.segments == 0 ? stats().first_sequence : planned.end_sequence};
}

std::shared_ptr<BackgroundThreads> Wal::Impl::background_threads() {
  if (!options_.background_thread || options_.background != nullptr) {
    return options_.background_thread ? options_.background : nullptr;
  }
  const std::lock_guard lock(background_mutex_);
  if (own_threads_ == nullptr) {
    own_threads_ = std::make_shared<BackgroundThreads>(1);
  }
  return own_threads_;
}

void Wal::Impl::start_retention() {
  deletion_ = std::make_unique<SegmentDeletion>(file_system_, *directory_, log_id_,
                                                scan_.chain.time_ms, observer_);
  deletion_->report_unreadable(scan_.derived);
  const auto& policy = options_.retention;
  if (is_read_only() || !options_.background_thread ||
      (policy.max_age == policy.max_age.zero() && policy.max_bytes == 0)) {
    return;
  }
  retention_task_ =
      std::make_unique<BackgroundTask>(background_threads(), [this] { return retention_step(); });
  retention_task_->wake();
}

std::optional<BackgroundTask::Clock::time_point> Wal::Impl::retention_step() {
  Result<SegmentDeletion::Done> done;
  try {
    done = deletion_->run({.active_segment_id = active_segment_id(),
                           .policy = options_.retention,
                           .segments_max = kSegmentsPerStep});
  } catch (const std::bad_alloc&) {
    done = make_error(ErrorCode::io, "{}: out of memory", options_.directory.string());
  }
  note_deletions();
  observer_->events.deliver();
  const auto now = BackgroundTask::Clock::now();
  const std::lock_guard lock(background_mutex_);
  if (done) {
    retention_failure_.reset();
    return done->there_is_more ? now : now + kRetentionInterval;
  }
  const bool is_in_the_way = done.error().code == ErrorCode::locked;
  retention_failure_ = std::move(done).error();
  return is_in_the_way ? now + kRetentionRetry : now + kRetentionInterval;
}

Result<CompactionReport> Wal::Impl::compact(const CompactionOptions& options) {
  NORI_TRY(check_writable());
  if (options.memory_bytes < kMiB || options.garbage_ratio_min < 0 ||
      options.garbage_ratio_min > 1) {
    return make_error(ErrorCode::invalid_argument,
                      "{}: compaction needs a mebibyte of memory or more, not {} bytes, and a "
                      "ratio from 0 to 1, not {}",
                      options_.directory.string(), options.memory_bytes, options.garbage_ratio_min);
  }
  const std::lock_guard lock(compaction_mutex_);
  const auto began = std::chrono::steady_clock::now();
  std::uint64_t bytes_done = 0;
  const CompactionContext context{
      .directory = *directory_,
      .log_id = log_id_,
      .mode = io_.mode,
      .delete_mutex = deletion_->mutex(),
      .active_segment_id = [&] { return active_segment_id(); },
      .limits = [&]() -> Result<CompactionLimits> {
        auto limits = NORI_TRY(deletion_->compaction_limits());
        if (deletion_->snapshot->is_taken()) {
          limits.drop_before = 0;  // nobody knows yet how old it will be
        }
        return limits;
      },
      .step = [&](std::uint64_t bytes) -> Result<void> {
        bytes_done += bytes;
        if (options.bytes_per_second != 0) {
          const auto seconds =
              static_cast<double>(bytes_done) / static_cast<double>(options.bytes_per_second);
          const auto until =
              began + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                          std::chrono::duration<double>(seconds));
          for (auto now = began; now < until && !is_closing_.load();) {
            std::this_thread::sleep_until(std::min(until, now + kCompactionPause));
            now = std::chrono::steady_clock::now();
          }
        }
        return is_closing_.load() ? unusable() : check_usable();
      },
      .now_ms = deletion_->now_ms(),
      .seed = file_system_.random_bits(),
      .target_bytes = options_.segment_bytes};
  auto report = compact_segments(context, options);
  if (report && !report->files.empty() && !options.dry_run) {
    observer_->events.post(SegmentsCompacted{.files_before = report->files_before,
                                             .files_after = report->files_after,
                                             .bytes_before = report->bytes_before,
                                             .bytes_after = report->bytes_after});
  }
  return report;
}

// A thread of its own: a step may take long.
void Wal::Impl::start_compaction() {
  if (!options_.background_thread || options_.compaction.garbage_ratio <= 0) {
    return;
  }
  compaction_schedule_.emplace(options_.compaction, options_.segment_bytes);
  compaction_task_ = std::make_unique<BackgroundTask>(std::make_shared<BackgroundThreads>(1),
                                                      [this] { return compaction_step(); });
  compaction_task_->wake();
}

std::optional<BackgroundTask::Clock::time_point> Wal::Impl::compaction_step() {
  const auto& policy = options_.compaction;
  auto decision = CompactionSchedule::Decision{};
  Result<CompactionReport> report;
  try {
    const auto sealed_bytes = bytes_before_segment(active_segment_id());
    decision = compaction_schedule_->decide(BackgroundTask::Clock::now(),
                                            current_position().sequence, sealed_bytes);
    if (!decision.is_due) {
      return decision.ask_again;
    }
    report = compact({.memory_bytes = policy.memory_bytes,
                      .garbage_ratio_min = policy.garbage_ratio,
                      .bytes_per_second = policy.bytes_per_second});
  } catch (const std::bad_alloc&) {
    report = make_error(ErrorCode::io, "{}: out of memory", options_.directory.string());
  }
  observer_->events.deliver();
  const std::lock_guard lock(background_mutex_);
  if (report) {
    compaction_schedule_->compacted(*report);
    compaction_failure_.reset();
    return std::nullopt;
  }
  compaction_failure_ = std::move(report).error();
  return BackgroundTask::Clock::now() + kRetentionInterval;
}

std::uint64_t Wal::Impl::bytes_before_segment(std::uint64_t segment_id) const {
  std::uint64_t bytes = 0;
  const auto listing = list_log(*directory_);
  for (const auto& file : listing ? listing->segments : std::vector<SegmentFile>{}) {
    if (file.last < segment_id) {
      const auto segment = SegmentReader::open(*directory_, file);
      bytes += segment ? (*segment)->size().value_or(0) : 0;
    }
  }
  return bytes;
}

Result<Reader> Wal::Impl::read_from(const ReadFrom& from, ReadOptions options) {
  NORI_TRY(check_usable());
  return Reader(NORI_TRY(open_reader(from, options, deletion_->readers->add())));
}

Result<std::unique_ptr<Reader::Impl>> Wal::Impl::open_reader(const ReadFrom& from,
                                                             ReadOptions options) {
  return open_reader(from, options, nullptr);
}

Result<std::unique_ptr<Reader::Impl>> Wal::Impl::open_reader(
    const ReadFrom& from, ReadOptions options, std::shared_ptr<ReaderPlaces::Place> place) {
  NORI_TRY(check_usable());
  Reader::Impl::Source source;
  source.directory = directory_;
  source.log_id = log_id_;
  source.ring_access = ring_access();
  source.progress = turn_;
  source.observer = observer_;
  source.place = std::move(place);
  if (const auto* writer = writer_.load(std::memory_order_acquire); writer != nullptr) {
    source.end = writer->end();
  } else {
    const std::lock_guard lock(begin_mutex_);
    source.durable = scan_.durable_mark;
  }
  auto reader = Reader::Impl::open(std::move(source), from, options);
  if (!reader && reader.error().code == ErrorCode::damaged) {
    observer_->events.post(
        DamageFound{.by = DamageFound::By::reader, .reason = reader.error().message});
  }
  return reader;
}

Consumer::Impl::Source Wal::Impl::consumer_source(std::shared_ptr<Impl> self,
                                                  std::string_view name) {
  return {.log = std::move(self),
          .file_system = file_system_,
          .directory = directory_,
          .log_id = log_id_,
          .observer = observer_,
          .threads = background_threads(),
          .dropped = deletion_->drops->add(std::string(name)),
          .is_read_only = is_read_only()};
}

Result<std::vector<ConsumerInfo>> Wal::Impl::consumers() {
  NORI_TRY(check_usable());
  return list_consumers(*directory_, log_id_);
}

Result<void> Wal::Impl::drop_consumer(std::string_view name) {
  NORI_TRY(check_usable());
  return nori::drop_consumer(file_system_, *directory_, name, kCursorsLockTimeout);
}

Result<Position> Wal::Impl::position_at(TimePoint time) {
  // A segment may be deleted on the way: then the first record of that time is another one.
  for (int attempt = 0;; ++attempt) {
    const auto end = current_position();
    const auto found = [&]() -> Result<Position> {
      auto reader = NORI_TRY(read_from(time, {}));
      const auto entry = NORI_TRY(reader.next());
      return entry ? entry->position : end;
    }();
    if (found || found.error().code != ErrorCode::gone || attempt == kAttemptsMax) {
      return found;
    }
  }
}

WalStats Wal::Impl::stats() {
  WalStats stats;
  if (is_of_parent()) {
    stats.failure = unusable().error();
    return stats;
  }
  stats.io = io_.mode.access == io::Access::write_direct ? IoMode::direct : IoMode::buffered;
  stats.io_reason =
      is_read_only() ? "opened read-only: reads through the page cache" : io_.io_reason;
  stats.ring_reason = io_.ring_reason;
  stats.block_bytes = directory_->traits().block_bytes;
  if (const auto* writer = writer_.load(std::memory_order_acquire); writer != nullptr) {
    writer->add_stats(stats);
    stats.recovery_time = scan_.info.time_taken;
  } else {
    const std::lock_guard lock(begin_mutex_);
    stats.recovery_time = scan_.info.time_taken;
    stats.active_segment_id = scan_.end.segment_id;
    stats.next_sequence = scan_.chain.next_sequence;
    stats.durable_sequence = std::min(scan_.durable_mark, scan_.chain.next_sequence);
    stats.ring_bytes = io_.ring_bytes;
    stats.failure = failure_;
    if (is_read_only()) {
      const auto ring = RingView::open(*directory_, log_id_);
      const bool has_ring = ring && *ring != nullptr;
      stats.ring_bytes = has_ring ? (*ring)->ring_bytes() : 0;
      stats.ring_bytes_used = scan_.bytes_from_ring;
      stats.ring_reason = has_ring ? "a writer's, running or killed"
                          : !ring  ? unreadable_ring_note(ring.error())
                                   : "the log was closed";
    }
  }
  stats.ring_wait_latency = observer_->ring_waits.snapshot();
  stats.ring_waits = stats.ring_wait_latency.count;
  stats.slow_syncs = observer_->slow_syncs.load();
  stats.listener_exceptions = observer_->events.exceptions();
  stats.callback_exceptions = callbacks_->exceptions();
  stats.callbacks_pending = callbacks_->pending();
  stats.events_dropped = observer_->events.dropped();
  stats.append_latency = observer_->appends.snapshot();
  stats.durable_wait_latency = observer_->durable_waits.snapshot();
  stats.flush_latency = observer_->flushes.snapshot();
  stats.sync_latency = observer_->syncs.snapshot();
  if (const auto listing = list_log(*directory_); listing) {
    stats.segments = listing->segments.size();
    static_cast<void>(read_first_sequence(listing->segments));
    for (const auto& file : listing->segments) {
      if (const auto segment = SegmentReader::open(*directory_, file); segment) {
        stats.bytes_on_disk += (*segment)->size().value_or(0);
      }
    }
  }
  stats.first_sequence = first_sequence_.load();
  stats.holds = deletion_->holds(stats.active_segment_id);
  stats.segments_deleted = segments_deleted_.load();
  const std::lock_guard lock(background_mutex_);
  stats.retention_failure = retention_failure_;
  stats.compaction_failure = compaction_failure_;
  return stats;
}

Result<void> Wal::Impl::close() {
  NORI_TRY(check_usable());
  if (!callbacks_->finish()) {
    return make_error(ErrorCode::invalid_argument,
                      "{}: a callback of when_durable may not close the log",
                      options_.directory.string());
  }
  if (retention_task_ != nullptr) {
    retention_task_->end();
  }
  is_closing_.store(true);
  if (compaction_task_ != nullptr) {
    compaction_task_->end();
  }
  // Whatever happens, std::bad_alloc included.
  struct Release {
    Impl& log;
    ~Release() {
      log.closed_.store(true);
      log.writer_.store(nullptr);
      log.writer_owned_.reset();
      log.lock_.reset();
    }
  } const release{*this};
  if (is_read_only() || (writer_.load() == nullptr && scan_.closed_cleanly)) {
    return {};
  }
  return NORI_TRY(writer())->close();
}

Result<LogAccess> Wal::Impl::access() {
  NORI_TRY(check_usable());
  return LogAccess{.directory = directory_,
                   .file_system = &file_system_,
                   .log_id = log_id_,
                   .is_read_only = is_read_only(),
                   .deletion = deletion_.get()};
}

Result<LogAccess> LogAccess::to(const Wal& wal) { return wal.impl_->access(); }

// --- Wal -----------------------------------------------------------------------------------------

Result<Opened> Wal::open(WalOptions options) {
  auto observer = std::make_shared<Observer>(options.listener, options.slow_sync);
  const EventDelivery told(observer->events);
  std::shared_ptr<Impl> impl = NORI_TRY(Impl::open(std::move(options), observer));
  auto recovery = impl->recovery();
  return Opened{.wal = Wal(std::move(impl)), .recovery = std::move(recovery)};
}

Wal::Wal(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Wal::Wal(Wal&&) noexcept = default;

Wal& Wal::operator=(Wal&& other) noexcept {
  if (this != &other) {
    finish();
    impl_ = std::move(other.impl_);
  }
  return *this;
}

Wal::~Wal() { finish(); }

// While there is still a log to answer what a listener may ask.
void Wal::finish() noexcept {
  if (impl_ != nullptr) {
    const EventDelivery told(impl_->events());
    impl_->finish();
  }
}

namespace {

// Of the thread that appends, so that nothing is allocated each time.
ValuePacker& packer() {
  static thread_local ValuePacker packer;
  return packer;
}

Result<void> check_batch(const Batch& batch) {
  if (batch.empty()) {
    return make_error(ErrorCode::invalid_argument, "an empty batch cannot be appended");
  }
  return {};
}

}  // namespace

Result<Appended> Wal::Impl::append(const Record& record, Durability durability, bool may_wait) {
  const EventDelivery told(events());
  FrameBody::Scratch scratch;
  return append(ValuePacker::wants(record, options_) ? packer().pack(record, options_, scratch)
                                                     : FrameBody(record, scratch),
                durability, may_wait);
}

Result<Appended> Wal::Impl::append(const Batch& batch, Durability durability, bool may_wait) {
  NORI_TRY(check_batch(batch));
  const EventDelivery told(events());
  FrameBody::Scratch scratch;
  return append(ValuePacker::wants(batch, options_)
                    ? packer().pack(batch, options_, scratch)
                    : FrameBody(as_byte_view(batch.encoded()), batch.record_count(), scratch),
                durability, may_wait);
}

Result<Appended> Wal::append(const Record& record, Durability durability) {
  return impl_->append(record, durability, true);
}

Result<Appended> Wal::try_append(const Record& record, Durability durability) {
  return impl_->append(record, durability, false);
}

Result<Appended> Wal::append(const Batch& batch, Durability durability) {
  return impl_->append(batch, durability, true);
}

Result<Appended> Wal::try_append(const Batch& batch, Durability durability) {
  return impl_->append(batch, durability, false);
}

Result<void> Wal::sync() {
  const EventDelivery told(impl_->events());
  return impl_->sync();
}

Result<void> Wal::wait_durable(const Position& position) {
  const EventDelivery told(impl_->events());
  return impl_->commit(position.sequence);
}

Result<void> Wal::when_durable(const Position& position, DurableCallback callback) {
  const EventDelivery told(impl_->events());
  return impl_->when_durable(position.sequence, std::move(callback));
}

Position Wal::current_position() const { return impl_->current_position(); }
Position Wal::durable_position() const { return impl_->durable_position(); }

Result<void> Wal::rotate() {
  const EventDelivery told(impl_->events());
  return impl_->rotate();
}

Result<std::uint64_t> Wal::delete_segments_before(const Position& position) {
  const EventDelivery told(impl_->events());
  return impl_->delete_segments_before(position);
}

Result<CompactionReport> Wal::compact(const CompactionOptions& options) {
  const EventDelivery told(impl_->events());
  return impl_->compact(options);
}

Result<std::uint64_t> Wal::apply_retention() { return apply_retention(impl_->retention()); }

Result<std::uint64_t> Wal::apply_retention(const RetentionPolicy& policy) {
  const EventDelivery told(impl_->events());
  return impl_->apply_retention(policy);
}

Result<Wal::Deletable> Wal::deletable_before(const Position& position) const {
  return impl_->deletable(position, {});
}

Result<Wal::Deletable> Wal::deletable_by(const RetentionPolicy& policy) const {
  return impl_->deletable(std::nullopt, policy);
}

Result<Consumer> Wal::consumer(std::string_view name) { return consumer(name, ConsumerOptions{}); }

Result<Consumer> Wal::consumer(std::string_view name, const ConsumerOptions& options) {
  const EventDelivery told(impl_->events());
  NORI_TRY(impl_->check_usable());
  return Consumer(
      NORI_TRY(Consumer::Impl::open(impl_->consumer_source(impl_, name), name, options)));
}

Result<std::vector<ConsumerInfo>> Wal::consumers() const { return impl_->consumers(); }

Result<void> Wal::drop_consumer(std::string_view name) {
  const EventDelivery told(impl_->events());
  return impl_->drop_consumer(name);
}

Result<Position> Wal::position_at(TimePoint time) const {
  const EventDelivery told(impl_->events());
  NORI_TRY(impl_->check_usable());
  return impl_->position_at(time);
}

Result<Reader> Wal::read_from(ReadFrom from, ReadOptions options) const {
  const EventDelivery told(impl_->events());
  return impl_->read_from(from, options);
}

WalStats Wal::stats() const { return impl_->stats(); }

Result<void> Wal::close() {
  const EventDelivery told(impl_->events());
  return impl_->close();
}

}  // namespace nori
