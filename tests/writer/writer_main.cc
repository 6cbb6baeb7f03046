// A writer for tests to kill. It opens a log, appends records that can be recognised, and says each
// thing it has been promised at once and unbuffered on standard output (writer_protocol.h). It
// never ends by itself, except with 1 and a line on standard error when a promise was broken.

#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/preemption.h"
#include "nori/wal.h"
#include "tests/writer/workload.h"
#include "tests/writer/writer_protocol.h"

namespace nori::writer_tests {
namespace {

[[noreturn]] void fail(std::string_view what) {
  const auto line = fmt::format("writer {}: {}\n", ::getpid(), what);
  std::fputs(line.c_str(), stderr);
  ::_exit(1);
}

// Below PIPE_BUF, so that those of several threads do not mix.
void say(const Message& message) {
  if (::write(STDOUT_FILENO, &message, sizeof(message)) != sizeof(message)) {
    ::_exit(1);  // nobody listens any more
  }
}

[[noreturn]] void wait_for_the_end() {
  for (;;) {
    ::pause();
  }
}

template <typename T>
T must(Result<T>&& result, std::string_view call) {
  if (!result) {
    fail(fmt::format("{}: {}: {}", call, error_code_name(result.error().code),
                     result.error().message));
  }
  if constexpr (!std::is_void_v<T>) {
    return *std::move(result);
  }
}

// Set in a thread that is to be held in the middle of its next copy.
thread_local bool hold_next_copy = false;

void hold(std::string_view point) {
  if (point == "copy" && hold_next_copy) {
    say({.kind = Message::Kind::held});
    wait_for_the_end();
  }
}

void hesitate(std::string_view point) {
  static std::atomic<std::uint64_t> calls{0};
  if (point == "copy" && calls.fetch_add(1, std::memory_order_relaxed) % 64 == 63) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

class AppendingThread {
 public:
  AppendingThread(Wal& wal, const WriterOptions& options, std::uint64_t thread)
      : wal_(wal), options_(options), workload_(options.workload()), thread_(thread) {}

  [[noreturn]] void run() {
    for (;;) {
      append_next();
      if (thread_ == 0) {
        maintain();
      }
    }
  }

  void append_next() {
    const auto number = next_++;
    const auto count = workload_.records_in(options_.life, thread_, number);
    RecordId id{.life = options_.life, .thread = thread_, .append = number, .count = count};
    const auto random = workload_.bits(id);
    const bool asks_durable = (random >> 20) % 256 == 0;
    const auto durability = asks_durable ? Durability::durable : Durability::policy;

    Result<Appended> result;
    if (count == 1) {
      const auto record = workload_.record(id, key_, value_);
      result = (random >> 28) % 4 == 0 ? wal_.try_append(record, durability)
                                       : wal_.append(record, durability);
      if (!result && result.error().code == ErrorCode::busy) {
        result = wal_.append(record, durability);
      }
    } else {
      batch_.clear();
      for (id.index = 0; id.index < count; ++id.index) {
        batch_.add(workload_.record(id, key_, value_));
      }
      result = wal_.append(batch_, durability);
    }
    const auto appended = must(std::move(result), "append");
    say({.kind = Message::Kind::appended,
         .thread = thread_,
         .append = number,
         .first = appended.sequence,
         .end = appended.end.sequence});
    if (appended.end.sequence != appended.sequence + count ||
        appended.position.sequence != appended.sequence) {
      fail("what append() returned does not add up");
    }
    if (asks_durable || options_.policy == "always") {
      if (wal_.durable_position() < appended.end) {
        fail("append() returned before its record was durable");
      }
      say({.kind = Message::Kind::durable, .end = appended.end.sequence});
    }
    last_ = appended;
  }

 private:
  void maintain() {
    if (next_ % 120 == 0) {
      must(wal_.sync(), "sync");
      if (wal_.durable_position() < last_.end) {
        fail("sync() returned before what was appended before it was durable");
      }
      say({.kind = Message::Kind::durable, .end = last_.end.sequence});
    }
    if (next_ % 70 == 0) {
      must(wal_.wait_durable(last_.end), "wait_durable");
      say({.kind = Message::Kind::durable, .end = last_.end.sequence});
    }
    if (options_.rotate_every == 0 || next_ % options_.rotate_every != 0) {
      return;
    }
    must(wal_.rotate(), "rotate");
    places_.push_back(last_.position);
    if (options_.deletes != 0 && places_.size() > 3) {
      say({.kind = Message::Kind::deleting, .end = places_.front().sequence});
      must(wal_.delete_segments_before(places_.front()), "delete_segments_before");
      say({.kind = Message::Kind::deleted, .first = wal_.stats().first_sequence});
      places_.pop_front();
    }
  }

  Wal& wal_;
  const WriterOptions& options_;
  Workload workload_;
  std::uint64_t thread_;
  std::uint64_t next_ = 0;
  std::string key_;
  std::string value_;
  Batch batch_;
  Appended last_;
  std::deque<Position> places_;
};

void append_with_all_threads(Wal& wal, const WriterOptions& options) {
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < options.threads; ++thread) {
    threads.emplace_back([&wal, &options, thread] { AppendingThread(wal, options, thread).run(); });
  }
  for (auto& thread : threads) {
    thread.join();
  }
}

// One thread stops in the middle of a copy, and never goes on. The others do what they can.
void append_beside_a_held_thread(Wal& wal, const WriterOptions& options) {
  preemption_hook.store(&hold);
  std::thread others([&] {
    for (std::uint64_t thread = 1; thread + 1 < options.threads; ++thread) {
      std::thread([&wal, &options, thread] {
        AppendingThread(wal, options, thread).run();
      }).detach();
    }
    AppendingThread(wal, options, options.threads - 1).run();
  });
  AppendingThread held(wal, options, 0);
  for (std::uint64_t i = 0; i < options.hold_at; ++i) {
    held.append_next();
  }
  hold_next_copy = true;
  held.append_next();
  fail("append() passed no preemption point \"copy\"");
}

template <typename T>
void say_answer(std::uint64_t call, const Result<T>& result) {
  say({.kind = Message::Kind::child_answer,
       .thread = call,
       .append = result ? Message::kNoError : static_cast<std::uint64_t>(result.error().code)});
}

// Everything one can ask of a log, in a child that has its parent's.
void ask_everything(Wal& wal, Reader& reader) {
  Batch batch;
  batch.put("from", "the child");
  const auto place = wal.current_position();
  say_answer(0, wal.append(Record::put("from", "the child")));
  say_answer(1, wal.append(batch));
  say_answer(2, wal.try_append(Record::remove("from")));
  say_answer(3, wal.try_append(batch));
  say_answer(4, wal.append(batch, Durability::durable));
  say_answer(5, wal.sync());
  say_answer(6, wal.wait_durable(place));
  say_answer(7, wal.rotate());
  say_answer(8, wal.delete_segments_before(place));
  say_answer(9, wal.position_at(TimePoint{}));
  say_answer(10, wal.read_from(begin_of_log));
  say_answer(11, reader.next());
  say_answer(12, reader.follow(std::chrono::milliseconds{1}));
  say_answer(13, wal.close());
  // These have no error to answer; they must not fall over either.
  static_cast<void>(wal.durable_position());
  static_cast<void>(wal.stats());
  say({.kind = Message::Kind::child_done});
}

void append_with_a_forked_child(Wal& wal, const WriterOptions& options) {
  AppendingThread appender(wal, options, 0);
  for (int i = 0; i < 100; ++i) {
    appender.append_next();
  }
  auto reader = must(wal.read_from(begin_of_log), "read_from");
  must(reader.next(), "next");
  const auto child = ::fork();
  if (child == 0) {
    ::alarm(120);  // should nobody kill it
    ask_everything(wal, reader);
    {
      const auto destroyed = std::move(wal);
    }
    wait_for_the_end();
  }
  say({.kind = Message::Kind::forked, .append = static_cast<std::uint64_t>(child)});
  must(reader.next(), "next, beside a child");
  appender.run();
}

// Forks in the middle of whatever the other threads are doing.
void append_and_fork_often(Wal& wal, const WriterOptions& options) {
  std::thread([&] { append_with_all_threads(wal, options); }).detach();
  for (;;) {
    const auto child = ::fork();
    if (child == 0) {
      ::alarm(20);  // a child that hangs fails, too
      const auto appended = wal.append(Record::put("from", "the child"));
      const bool refused = !appended && appended.error().code == ErrorCode::closed;
      {
        const auto destroyed = std::move(wal);
      }
      ::_exit(refused ? 0 : 1);
    }
    int status = 0;
    if (child < 0 || ::waitpid(child, &status, 0) != child) {
      fail("fork or waitpid");
    }
    if (status != 0) {
      fail(fmt::format("a child's log did not answer `closed` (wait status {})", status));
    }
    say({.kind = Message::Kind::forked, .append = static_cast<std::uint64_t>(child)});
  }
}

[[noreturn]] void run(const WriterOptions& options) {
  ::signal(SIGPIPE, SIG_IGN);
  say({.kind = Message::Kind::starting});
  auto opened = must(Wal::open(options.wal_options()), "open");
  const auto& recovery = opened.recovery;
  say({.kind = Message::Kind::opened,
       .append = recovery.valid_records,
       .first = recovery.next_sequence,
       .flags = (recovery.closed_cleanly ? Message::kClosedCleanly : 0) |
                (recovery.corruption_detected ? Message::kCorruptionDetected : 0) |
                (recovery.created ? Message::kCreated : 0)});
  if (opened.wal.current_position().sequence != recovery.next_sequence) {
    fail("RecoveryInfo::next_sequence is not where the log goes on");
  }
  if (options.hesitates != 0) {
    preemption_hook.store(&hesitate);
  }

  if (options.act == "append") {
    append_with_all_threads(opened.wal, options);
  } else if (options.act == "hold") {
    append_beside_a_held_thread(opened.wal, options);
  } else if (options.act == "fork") {
    append_with_a_forked_child(opened.wal, options);
  } else if (options.act == "fork_often") {
    append_and_fork_often(opened.wal, options);
  }
  fail("no such act: " + options.act);
}

}  // namespace
}  // namespace nori::writer_tests

int main(int count, char** arguments) {
  const auto options =
      nori::writer_tests::WriterOptions::from_arguments({arguments + 1, arguments + count});
  if (!options) {
    std::fputs("usage: test_writer NAME=VALUE...  (tests/writer/writer_protocol.h)\n", stderr);
    return 2;
  }
  nori::writer_tests::run(*options);
}
