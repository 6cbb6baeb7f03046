#include "testing/schedule/threaded_simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <memory>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "nori/consumer.h"
#include "nori/verify.h"
#include "nori/wal.h"
#include "testing/crash_points.h"
#include "testing/derived_model.h"
#include "testing/fault_plan.h"
#include "testing/random.h"
#include "testing/recovered_log.h"
#include "testing/reference_model.h"
#include "testing/schedule/schedule.h"
#include "testing/schedule/told.h"
#include "testing/simulated_disk.h"
#include "testing/simulation.h"
#include "testing/workload.h"

namespace nori::testing {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

const std::string kConsumer = "consumer";

struct Plan {
  WalOptions options;
  std::uint64_t pool_threads = 0;  ///< Of a pool that the log gets; 0: its own.
  std::vector<std::uint64_t> thread_seeds;
  std::optional<std::uint64_t> latency_seed;
  std::optional<std::uint64_t> crash_after;  ///< As Life::crash_after.
  std::optional<std::uint64_t> crash_point;  ///< Scheduling points after it is open.
  std::optional<Fault> fault;
  bool is_heavy = false;  ///< It goes round the ring, from segment to segment.
  bool deletes = false;
  bool consumes = false;
  bool compacts = false;
  bool closes = false;
  std::size_t crash_form = 0;
  std::uint64_t crash_seed = 0;
};

Plan random_plan(Random& random, IoMode io, Padding padding) {
  constexpr std::uint64_t kPoints[] = {50, 500, 2000};
  Plan plan;
  auto& options = plan.options;
  options = small_options();
  options.background_thread = !random.chance(32);
  options.io = io;
  options.padding = padding;
  switch (random.below(4)) {
    case 0:
      options.fsync = FsyncPolicy::always();
      break;
    case 1:
      options.fsync = FsyncPolicy::os();
      break;
    default:
      options.fsync = FsyncPolicy::batch(milliseconds(random.coin() ? 1 : 5));
      break;
  }
  options.ring_bytes = 64 * kKiB << (random.chance(64) ? random.below(3) : 0);
  if (io == IoMode::buffered && random.coin()) {
    options.ring_bytes = WalOptions::kNoRing;
  }
  options.segment_bytes = 64 * kKiB << (random.chance(64) ? random.below(3) : 0);
  options.verification = random.chance(64) ? Verification::all : Verification::tail;
  if (options.background_thread && random.chance(64)) {
    plan.pool_threads = 1 + random.below(3);
  }
  const auto threads = 2 + random.below(3);
  for (std::uint64_t thread = 0; thread < threads; ++thread) {
    plan.thread_seeds.push_back(random.next());
  }
  if (!random.chance(96)) {
    plan.latency_seed = random.next();
  }
  switch (random.below(4)) {
    case 0:
      plan.crash_after = random.below(random.coin() ? 12 : 80);
      break;
    case 1:
    case 2:
      plan.crash_point = 1 + random.below(kPoints[random.below(std::size(kPoints))]);
      break;
    default:
      break;
  }
  if (random.chance(40)) {
    plan.fault = random_fault(random);
  }
  plan.is_heavy = random.chance(64);
  plan.deletes = random.coin();
  plan.consumes = random.coin();
  plan.compacts = random.chance(64);
  plan.closes = random.chance(96);
  plan.crash_form = random.coin() ? 0 : random.below(std::size(kCrashForms));
  plan.crash_seed = random.next();
  return plan;
}

// How long calls take: long enough that others come in between.
microseconds latency_of(Operation operation, Random& random) {
  switch (operation) {
    case Operation::sync:
    case Operation::durable_write:
    case Operation::directory_sync:
      return microseconds(random.below(1000));
    default:
      return microseconds(changes_the_disk(operation) ? random.below(100) : 0);
  }
}

/// One life: what runs on the schedule. Where that gets stuck this stays for ever.
class ThreadedLife {
 public:
  ThreadedLife(std::shared_ptr<SimulatedDisk> disk, Plan plan, const ReferenceLog& earlier,
               const DerivedModel& derived, std::uint64_t first_number)
      : disk_(std::move(disk)),
        plan_(std::move(plan)),
        earlier_(earlier),
        derived_(derived),
        next_number_(first_number),
        faults_before_(disk_->faults_hit()),
        told_(earlier_) {}

  void run();

  [[nodiscard]] const Plan& plan() const noexcept { return plan_; }
  [[nodiscard]] const CrashForm& crash_form() const { return kCrashForms[plan_.crash_form]; }
  [[nodiscard]] Told& told() noexcept { return told_; }
  [[nodiscard]] DerivedModel& derived() noexcept { return derived_; }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  [[nodiscard]] bool was_opened() const noexcept { return was_opened_; }
  [[nodiscard]] std::string watched() const;
  [[nodiscard]] std::uint64_t next_number() const noexcept { return next_number_; }

 private:
  class Worker;

  void complain(std::string problem) {
    if (problem_.empty() && !problem.empty()) {
      note(problem);
      problem_ = std::move(problem);
    }
  }
  // Whether the call was answered. An error needs a cause.
  template <typename T>
  bool answered(const Result<T>& answer, std::string_view call);
  void note(std::string_view what);
  void die();
  void told_durable(Sequence end);
  void append_once(std::uint64_t thread, std::uint64_t records, std::uint64_t value_bytes,
                   Durability durability, bool may_wait);
  void open();
  void work();
  void close();

  const std::shared_ptr<SimulatedDisk> disk_;
  Plan plan_;
  const ReferenceLog earlier_;  ///< What was there before.
  DerivedModel derived_;        ///< The consumer's cursor.
  std::uint64_t next_number_;   ///< Of an append's contents.
  const std::uint64_t faults_before_;
  std::optional<Wal> wal_;
  Told told_;
  bool has_died_ = false;  ///< What is answered from now on reaches nobody.
  bool was_opened_ = false;
  std::optional<std::uint64_t> durable_bytes_changed_;  ///< Before it was written to.
  std::uint64_t registered_ = 0;
  std::uint64_t called_back_ = 0;
  std::string problem_;
  std::size_t disk_lines_ = 0;  ///< Of the disk's trace, that are in the schedule's.
};

template <typename T>
bool ThreadedLife::answered(const Result<T>& answer, std::string_view call) {
  if (answer) {
    note("answered");
    return true;
  }
  const auto& error = answer.error();
  note(error.message);
  // The crash, which makes an end of all the others, may come while they are asked for. No fault is
  // one that damages a log.
  const bool has_a_cause =
      disk_->dead() || has_died_ ||
      (disk_->faults_hit() != faults_before_ && error.code != ErrorCode::damaged);
  if (!has_a_cause) {
    complain(fmt::format("{}: an error without a cause: {}: {}", call, error_code_name(error.code),
                         error.message));
  }
  return false;
}

void ThreadedLife::note(std::string_view what) {
  if (Schedule::is_traced()) {
    const Schedule::Undisturbed undisturbed;
    const auto lines = disk_->trace();
    for (; disk_lines_ < lines.size(); ++disk_lines_) {
      Schedule::note("                         " + lines[disk_lines_]);
    }
  }
  Schedule::note(std::string(what));
}

void ThreadedLife::die() {
  const Schedule::Undisturbed undisturbed;
  if (!std::exchange(has_died_, true)) {
    if (crash_form().crash == Crash::process) {
      disk_->crash_process();
    } else {
      disk_->power_cut(plan_.crash_seed, crash_form().options);
    }
  }
}

void ThreadedLife::append_once(std::uint64_t thread, std::uint64_t records,
                               std::uint64_t value_bytes, Durability durability, bool may_wait) {
  const bool is_durable =
      durability == Durability::durable || plan_.options.fsync.kind() == FsyncPolicy::Kind::always;
  auto& attempt = told_.begin_append(thread, make_records(next_number_++, records, value_bytes));
  note(is_durable ? "appends durably" : "appends");
  Batch batch;
  for (const auto& record : attempt.records) {
    batch.add(record.view());
  }
  const auto answer =
      may_wait ? wal_->append(batch, durability) : wal_->try_append(batch, durability);
  if (has_died_) {
    return;
  }
  complain(told_.end_append(attempt, answer));
  if (!answer && !may_wait && answer.error().code == ErrorCode::busy) {
    return;
  }
  if (answered(answer, "append") && is_durable) {
    told_durable(answer->end.sequence);
  }
}

void ThreadedLife::told_durable(Sequence end) {
  if (has_died_) {
    return;
  }
  told_.durable(end);
  const auto mark = wal_->durable_position().sequence;
  if (mark < end && !has_died_) {
    complain(fmt::format("what is before {} is said to be durable, and the mark is {}", end, mark));
  }
}

// A thread that uses the log.
class ThreadedLife::Worker {
 public:
  Worker(ThreadedLife& life, std::uint64_t number)
      : life_(life),
        number_(number),
        random_(life.plan_.thread_seeds[number]),
        told_(life.told_),
        wal_(*life.wal_) {}

  void run() {
    const auto steps = 2 + random_.below(life_.plan_.is_heavy ? 24 : 12);
    for (std::uint64_t step = 0; step < steps && life_.problem_.empty(); ++step) {
      do_something();
    }
  }

 private:
  void do_something() {
    const auto value_bytes = life_.plan_.is_heavy ? 9000 : random_value_bytes(random_);
    switch (random_.below(24)) {
      case 0:
        return sync();
      case 1:
        return wait_durable();
      case 2:
      case 3:
        return when_durable();
      case 4:
        return life_.plan_.compacts && random_.coin() ? compact() : rotate();
      case 5:
        return life_.plan_.deletes && number_ == 0 ? delete_old() : follow();
      case 6:
        return read_all(Visible::appended);
      case 7:
        return read_all(Visible::durable);
      case 8:
      case 9:
        return life_.plan_.consumes && number_ == 1 ? consume() : follow();
      case 10:
        return look_at_stats();
      case 11:
        return look_at_mark();
      case 12:
        return std::this_thread::sleep_for(milliseconds(random_.below(8)));
      case 13:
        return look_from_outside();
      case 14:
        return verify_from_outside();
      case 15:  // more than a quarter of a ring; more than a segment
        return append(1, 1, random_.chance(64) ? 70'000 : 17'000);
      case 16:
        return append(1, 1 + random_.below(20), value_bytes);
      case 17:
      case 18:
        return append(1 + random_.below(2), 1, value_bytes, Durability::durable);
      case 19:
        return append(1 + random_.below(4), 1, value_bytes, Durability::policy, false);
      default:
        return append(1 + random_.below(4), 1, value_bytes);
    }
  }

  void append(std::uint64_t times, std::uint64_t records, std::uint64_t value_bytes,
              Durability durability = Durability::policy, bool may_wait = true) {
    for (std::uint64_t i = 0; i < times; ++i) {
      life_.append_once(number_, records, value_bytes, durability, may_wait);
    }
    if (random_.chance(64)) {
      read_newest();
    }
  }

  // Whether the call was answered while there was somebody to be told.
  template <typename T>
  bool answered(const Result<T>& answer, std::string_view call) {
    return life_.answered(answer, call) && !life_.has_died_;
  }
  // The same of a reader, which may come to what was deleted.
  template <typename T>
  bool read(const Result<T>& answer, std::string_view call) {
    if (!answer && answer.error().code == ErrorCode::gone && told_.has_deleted()) {
      return false;
    }
    return answered(answer, call);
  }
  void complain(std::string problem) {
    if (!life_.has_died_) {
      life_.complain(std::move(problem));
    }
  }

  void sync() {
    const auto appended = told_.appended_end().sequence;
    life_.note("syncs");
    if (answered(wal_.sync(), "sync")) {
      told_durable(appended);
    }
  }

  void wait_durable() {
    const auto position = told_.appended_end();
    life_.note("waits for what is appended");
    if (answered(wal_.wait_durable(position), "wait_durable")) {
      told_durable(position.sequence);
    }
  }

  void when_durable() {
    const auto position = told_.appended_end();
    const bool appends = random_.chance(64);
    life_.note("asks to be called back");
    ++life_.registered_;
    const auto answer = wal_.when_durable(
        position, [&life = life_, position, appends](const Result<void>& outcome) {
          ++life.called_back_;
          life.note("is called back");
          if (life.answered(outcome, "a callback")) {
            life.told_durable(position.sequence);
          }
          if (appends) {
            const auto thread = life.plan_.thread_seeds.size();  // the log's
            life.append_once(thread, 1, 100, Durability::policy, true);
          }
        });
    if (!answered(answer, "when_durable") && !answer) {
      --life_.registered_;
    }
  }

  void rotate() {
    life_.note("rotates");
    answered(wal_.rotate(), "rotate");
  }

  // One thread does, so that it knows what it was that it was told of.
  void delete_old() {
    const Position position{.sequence = told_.settled_end()};
    told_.begin_delete(position.sequence);
    life_.note("deletes");
    if (!answered(wal_.delete_segments_before(position), "delete_segments_before")) {
      return;
    }
    const auto first = wal_.stats().first_sequence;
    if (!life_.has_died_) {
      told_.end_delete(first);
      told_durable(life_.disk_->faults_hit() == life_.faults_before_ ? position.sequence : first);
    }
  }

  // All records stay, elsewhere.
  void compact() {
    told_.begin_compaction();
    life_.note("compacts");
    answered(wal_.compact({.keep = CompactionOptions::Keep::all}), "compact");
  }

  // What was appended before a reader is made is seen by it.
  void read_newest() {
    const auto end = told_.appended_end();
    if (end.sequence == 0) {
      return;
    }
    life_.note("reads the newest");
    auto reader = wal_.read_from(end.sequence - 1);
    if (!read(reader, "read_from")) {
      return;
    }
    const auto entry = reader->next();
    if (!read(entry, "next")) {
      return;
    }
    if (!*entry || (*entry)->sequence + 1 != end.sequence) {
      return complain(fmt::format("record {} was appended, and is not found", end.sequence - 1));
    }
    complain(told_.saw((*entry)->copy()));
  }

  void read_all(Visible visible) {
    const bool only_durable = visible == Visible::durable;
    const auto end = only_durable ? told_.durable_end() : told_.appended_end().sequence;
    life_.note(only_durable ? "reads what is durable" : "reads all");
    auto reader = wal_.read_from(begin_of_log, {.visible = visible});
    std::optional<Sequence> next;
    if (!read(reader, "read_from") || !read_on(*reader, next)) {
      return;
    }
    const auto read_end = reader->position().sequence;
    if (read_end < end) {
      complain(fmt::format("reading ends before record {}, not {}", read_end, end));
    }
    if (only_durable) {
      told_durable(read_end);
    }
  }

  // To the end, from `next` on. False: not there.
  bool read_on(Reader& reader, std::optional<Sequence>& next) {
    for (;;) {
      const auto entry = reader.next();
      if (!entry || life_.has_died_) {
        read(entry, "next");
        return false;
      }
      if (!*entry) {
        return true;
      }
      const auto sequence = (*entry)->sequence;
      if (sequence != next.value_or(sequence)) {
        complain(fmt::format("record {} was read, and record {} is next", sequence, *next));
      }
      complain(told_.saw((*entry)->copy()));
      next = sequence + 1;
    }
  }

  // As another process would.
  void look_from_outside() {
    const auto appended = told_.appended_end().sequence;
    auto options = life_.plan_.options;
    options.mode = OpenMode::read_only;
    options.verification = random_.coin() ? Verification::all : Verification::tail;
    life_.note("opens it read-only");
    auto opened = Wal::open(options);
    if (!answered(opened, "a read-only open")) {
      return;
    }
    const auto& recovery = opened->recovery;
    if (recovery.corruption_detected || recovery.next_sequence < appended) {
      return complain(fmt::format("opened read-only it ends at {}, not {}: {}",
                                  recovery.next_sequence, appended, recovery.reason));
    }
    auto reader = opened->wal.read_from(begin_of_log);
    std::optional<Sequence> next;
    if (read(reader, "read_from")) {
      read_on(*reader, next);
    }
  }

  void verify_from_outside() {
    life_.note("verifies");
    const auto report = verify(life_.plan_.options.directory, life_.disk_.get());
    if (answered(report, "verify") && !report->damages.empty()) {
      complain("verified it is damaged: " + report->damages.front().reason);
    }
  }

  void follow() {
    life_.note("follows");
    if (!follower_) {
      auto reader = wal_.read_from(begin_of_log);
      if (!read(reader, "read_from")) {
        return;
      }
      follower_.emplace(*std::move(reader));
      followed_.reset();
    }
    const auto has_more = follower_->follow(milliseconds(random_.below(3)));
    if (!read(has_more, "follow") || !read_on(*follower_, followed_)) {
      follower_.reset();
    }
  }

  // One thread does. The log's own threads write the cursor at any time after a commit.
  void consume() {
    if (!consumer_ && !open_consumer()) {
      return;
    }
    life_.note("consumes");
    const auto records = random_.below(40);
    for (std::uint64_t i = 0; i < records; ++i) {
      const auto entry = consumer_->next();
      if (!read(entry, "a consumer")) {
        return;
      }
      if (!*entry) {
        break;
      }
      complain(told_.saw((*entry)->copy()));
      told_durable((*entry)->sequence + 1);
    }
    // Now and then it is done with what it has not read, and with what is not durable.
    const auto place = random_.chance(64) ? told_.appended_end() : consumer_->position();
    if (place > consumer_->committed()) {
      move_cursor(place.sequence);
    }
    if (answered(consumer_->commit(place), "commit")) {
      told_durable(place.sequence);
    }
    if (random_.coin()) {
      flush_consumer();
    }
  }

  bool open_consumer() {
    const auto start = told_.appended_end().sequence;
    const bool may_be_new = life_.derived_.may_be_missing(kConsumer);
    if (may_be_new) {
      move_cursor(start);
    }
    life_.note("opens a consumer");
    auto consumer = wal_.consumer(kConsumer, {.from = start});
    if (!read(consumer, "consumer")) {
      return false;
    }
    const auto stands = consumer->committed().sequence;
    complain(life_.derived_.see(kConsumer, stands));
    told_durable(stands);
    consumer_.emplace(*std::move(consumer));
    return true;
  }

  void move_cursor(Sequence to) {
    if (!life_.has_died_) {
      life_.derived_.begin_move(kConsumer, to);
    }
  }

  void flush_consumer() {
    const auto place = consumer_->committed().sequence;
    life_.note("flushes its cursor");
    if (answered(consumer_->flush(), "flush")) {
      life_.derived_.end_move(kConsumer, place);
    }
  }

  void look_at_stats() {
    const auto appended = told_.appended_end().sequence;
    const auto durable = told_.durable_end();
    life_.note("looks at the figures");
    const auto stats = wal_.stats();
    if (stats.next_sequence < appended || stats.durable_sequence < durable ||
        stats.durable_sequence > stats.next_sequence) {
      complain(fmt::format("{} records of {} are said to be durable, and it was {} of {}",
                           stats.durable_sequence, stats.next_sequence, durable, appended));
    }
    told_durable(stats.durable_sequence);
  }

  void look_at_mark() {
    told_durable(told_.durable_end());
    told_durable(wal_.durable_position().sequence);
  }

  void told_durable(Sequence end) { life_.told_durable(end); }

  ThreadedLife& life_;
  const std::uint64_t number_;
  Random random_;
  Told& told_;
  Wal& wal_;
  std::optional<Reader> follower_;
  std::optional<Sequence> followed_;  ///< What the follower returns next, once it has begun.
  std::optional<Consumer> consumer_;
};

void ThreadedLife::run() {
  auto& options = plan_.options;
  options.file_system = disk_.get();
  if (plan_.pool_threads != 0) {
    options.background =
        std::make_shared<BackgroundThreads>(static_cast<unsigned>(plan_.pool_threads));
  }
  open();
  if (wal_) {
    work();
    if (plan_.closes) {
      close();
    }
  }
  die();
  note("ends");
  wal_.reset();
  options.background.reset();
  if (called_back_ != registered_) {
    complain(fmt::format("{} callbacks were called, of {}", called_back_, registered_));
  }
}

void ThreadedLife::open() {
  note("opens");
  auto opened = Wal::open(plan_.options);
  if (!answered(opened, "open")) {
    return;
  }
  was_opened_ = true;
  wal_.emplace(std::move(opened->wal));
  if (opened->recovery.next_sequence != earlier_.appended_end()) {
    complain(fmt::format("the log ends at {}, and {} records were appended",
                         opened->recovery.next_sequence, earlier_.appended_end()));
  }
  told_.durable(wal_->durable_position().sequence);
  if (!plan_.fault) {
    durable_bytes_changed_ = disk_->durable_bytes_changed();
  }
  if (plan_.crash_point) {
    Schedule::call_at_point(*plan_.crash_point, [this] { die(); });
  }
}

void ThreadedLife::work() {
  std::vector<std::jthread> threads;
  for (std::uint64_t thread = 0; thread < plan_.thread_seeds.size(); ++thread) {
    threads.emplace_back([this, thread] { Worker(*this, thread).run(); });
  }
}

void ThreadedLife::close() {
  note("closes");
  const auto appended = told_.appended_end().sequence;
  if (answered(wal_->close(), "close") && !has_died_) {
    told_.durable(appended);
  }
}

// With a background thread zeros are synced ahead of the log's end, and with them the front of a
// frame. So durable bytes are watched between recoveries only.
std::string ThreadedLife::watched() const {
  if (plan_.options.padding == Padding::block && durable_bytes_changed_ &&
      disk_->durable_bytes_changed() != *durable_bytes_changed_) {
    return "durable bytes were changed";
  }
  return testing::watched(*disk_, without_durable_bytes(plan_.options));
}

// What the crash left is compared, and becomes the reference.
std::string examine(SimulatedDisk& disk, ThreadedLife& life, ReferenceLog& reference,
                    bool may_be_missing) {
  const auto crash = life.crash_form().crash;
  if (auto wrong = life.watched(); !wrong.empty()) {
    return wrong;
  }
  auto options = life.plan().options;
  options.mode = OpenMode::read_only;
  options.verification = Verification::all;
  LogContents found;
  if (const auto opened = Wal::open(options); opened) {
    auto contents = read_all(opened->wal);
    if (!contents) {
      return contents.error().message;
    }
    found = *std::move(contents);
  } else if (opened.error().code != ErrorCode::not_a_log) {
    return opened.error().message;
  }
  auto wrong = life.told().settle(found, crash, reference);
  return wrong.empty()
             ? look_at(disk, life.plan().options, reference, life.derived(), crash, may_be_missing)
             : wrong;
}

}  // namespace

ThreadedRun simulate_threads(std::uint64_t seed, std::vector<std::string>* trace) {
  Random random(seed);
  SimulatedDiskOptions disk_options;
  disk_options.seed = random.next();
  disk_options.sector_bytes = random.coin() ? 512U : 4096U;
  const auto disk = std::make_shared<SimulatedDisk>(disk_options);
  disk->set_tracing(trace != nullptr);
  const auto io = random.coin() ? IoMode::direct : IoMode::buffered;
  const auto padding = random.chance(170) ? Padding::block : Padding::none;

  ThreadedRun run;
  ReferenceLog reference;
  DerivedModel derived;
  bool exists = false;
  std::uint64_t next_number = 0;
  const auto lives = 1 + random.below(6);
  for (; run.lives < lives; ++run.lives) {
    const auto life = std::make_shared<ThreadedLife>(disk, random_plan(random, io, padding),
                                                     reference, derived, next_number);
    const auto& plan = life->plan();
    if (plan.crash_after) {
      disk->crash_after(*plan.crash_after);
    }
    if (plan.fault) {
      disk->inject(*plan.fault);
    }
    if (plan.latency_seed) {
      disk->set_latency([latencies = Random(*plan.latency_seed)](Operation operation) mutable {
        return latency_of(operation, latencies);
      });
    }
    Schedule schedule(random.next());
    schedule.set_tracing(trace != nullptr);
    auto wrong = schedule.run([life] { life->run(); });
    run.points += schedule.points();
    run.switches += schedule.switches();
    run.digest = (run.digest ^ schedule.digest()) * 0x9e3779b97f4a7c15;
    if (trace != nullptr) {
      trace->push_back(fmt::format("-- life {}", run.lives));
      trace->insert(trace->end(), schedule.trace().begin(), schedule.trace().end());
    }
    if (wrong.empty()) {
      wrong = life->problem();
    }
    if (wrong.empty()) {
      disk->clear_faults();
      disk->set_latency({});
      exists = exists || (life->was_opened() && !plan.fault);
      wrong = examine(*disk, *life, reference, !exists);
    }
    if (!wrong.empty()) {
      run.wrong = fmt::format("life {}: {}: {}", run.lives, life->crash_form().name, wrong);
      return run;
    }
    derived = life->derived();
    next_number = life->next_number();
    disk->advance_ms(static_cast<std::int64_t>(random.below(100)) - 20);
  }
  auto options = without_durable_bytes(small_options());
  options.io = io;
  if (auto wrong = check_recovery(*disk, options, reference, Crash::process, !exists);
      !wrong.empty()) {
    run.wrong = fmt::format("after the last life: {}", wrong);
  }
  return run;
}

}  // namespace nori::testing
