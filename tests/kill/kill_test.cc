// Real processes, really killed: what append() has returned for survives SIGKILL, under every
// policy, and the log goes on from there.

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <ostream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nori/verify.h"
#include "nori/wal.h"
#include "testing/is_sanitized.h"
#include "tests/writer/log_check.h"
#include "tests/writer/workload.h"
#include "tests/writer/writer_process.h"
#include "tests/writer/writer_protocol.h"

namespace nori::writer_tests {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Of each writer. With those of the other tests 500 in all.
constexpr int kKills = testing::kIsSanitized ? 5 : 26;

// A log that is written, killed and looked at. In the build folder: /tmp may be no real disk.
class KillTest : public ::testing::Test {
 public:
  ~KillTest() override {
    if (HasFailure()) {
      fmt::print("again with NORI_KILL_SEED={}; the log is left in {}\n", seed_,
                 options_.directory);
      return;
    }
    std::error_code ignored;
    std::filesystem::remove_all(scratch_, ignored);
  }

 protected:
  KillTest() {
    const char* const given = std::getenv("NORI_KILL_SEED");  // NOLINT(concurrency-mt-unsafe)
    seed_ = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    random_.seed(seed_);
    scratch_ = std::filesystem::current_path() / fmt::format("kill-{}-{}", ::getpid(), seed_);
    std::filesystem::create_directories(scratch_);
    options_.directory = (scratch_ / "log").string();
    options_.seed = seed_;
  }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return std::uniform_int_distribution<std::uint64_t>(low, high)(random_);
  }

  bool one_in(std::uint64_t n) { return between(1, n) == 1; }

  // Whether this disk takes direct I/O; where not, there is nothing to test.
  [[nodiscard]] bool direct_is_refused() const {
    const auto file =
        ::open((scratch_ / "probe").c_str(), O_CREAT | O_RDWR | O_DIRECT | O_CLOEXEC, 0600);
    if (file >= 0) {
      ::close(file);
    }
    return file < 0;
  }

  Knowledge& knowledge() {
    if (!knowledge_) {
      knowledge_.emplace(options_);
    }
    return *knowledge_;
  }

  // Takes down what the killed writer said, and looks at what it left without changing it.
  void look_at_the_log(const WriterProcess& writer) {
    knowledge().hear(options_.life, writer.messages());
    look_at_the_log();
  }
  void look_at_the_log() {
    const auto before = listing(options_.directory);
    {
      auto options = options_.wal_options();
      options.mode = OpenMode::read_only;
      const auto opened = Wal::open(options);
      if (!opened && opened.error().code == ErrorCode::not_a_log && !knowledge().log_exists()) {
        return;  // killed before it was one
      }
      ASSERT_TRUE(opened) << opened.error().message;
      EXPECT_FALSE(opened->recovery.corruption_detected) << opened->recovery.reason;
      EXPECT_FALSE(opened->recovery.created);
      knowledge().check(opened->wal);
      EXPECT_EQ(opened->recovery.next_sequence, knowledge().end());
    }
    EXPECT_EQ(listing(options_.directory), before) << "reading changed the directory";
  }

  // Opens for writing, appends, closes, opens again.
  void recover_here() {
    const auto end = knowledge().end();
    ++options_.life;
    {
      auto opened = Wal::open(options_.wal_options());
      ASSERT_TRUE(opened) << opened.error().message;
      auto& [wal, recovery] = *opened;
      EXPECT_EQ(recovery.next_sequence, end);
      EXPECT_FALSE(recovery.corruption_detected);
      EXPECT_EQ(recovery.created, !knowledge().log_exists());
      EXPECT_LE(recovery.records_from_ring, recovery.valid_records);
      EXPECT_EQ(recovery.bytes_truncated == 0, !recovery.truncated_at);
      if (recovery.last_valid_position) {
        EXPECT_EQ(recovery.last_valid_position->sequence + 1, end);
      }
      EXPECT_EQ(wal.current_position().sequence, end);
      EXPECT_EQ(wal.durable_position().sequence, end) << "what open() keeps is durable";
      knowledge().check(wal);

      std::string key;
      std::string value;
      for (std::uint64_t append = 0; append < 5; ++append) {
        RecordId id{.life = options_.life, .append = append};
        id.count = knowledge().workload().records_in(id.life, id.thread, id.append);
        Batch batch;
        for (id.index = 0; id.index < id.count; ++id.index) {
          batch.add(knowledge().workload().record(id, key, value));
        }
        const auto appended = wal.append(batch);
        ASSERT_TRUE(appended) << appended.error().message;
        knowledge().appended(id, *appended);
      }
      const auto closed = wal.close();
      ASSERT_TRUE(closed) << closed.error().message;
    }
    look_at_the_log();
    auto options = options_.wal_options();
    options.mode = OpenMode::existing;
    auto reopened = Wal::open(options);
    ASSERT_TRUE(reopened) << reopened.error().message;
    EXPECT_TRUE(reopened->recovery.closed_cleanly);
    EXPECT_EQ(reopened->recovery.next_sequence, knowledge().end());
    EXPECT_EQ(reopened->recovery.records_from_ring, 0U);
    EXPECT_EQ(reopened->recovery.bytes_truncated, 0U);
    knowledge().check(reopened->wal);
    ASSERT_TRUE(reopened->wal.close());
  }

  // At the end: every byte of the log is sound.
  void verify_all() {
    const auto report = nori::verify(options_.directory);
    ASSERT_TRUE(report) << report.error().message;
    for (const auto& damage : report->damages) {
      ADD_FAILURE() << "damage at " << damage.segment_id << ":" << damage.offset << ": "
                    << damage.reason;
    }
    EXPECT_EQ(report->next_sequence, knowledge().end());
    EXPECT_EQ(report->bytes_torn, 0U);
  }

  // Starts a writer, kills it at a random moment, looks at what it left; several times over. Most
  // lives are short: there are more of them then, and a log of many is still read in no time.
  void kill_again_and_again(int kills) {
    microseconds opening{3000};
    bool closed_cleanly = false;
    int kills_while_opening = 0;
    for (int kill = 0; kill < kills && !HasFailure(); ++kill) {
      SCOPED_TRACE(fmt::format("kill {} (NORI_KILL_SEED={})", kill, seed_));
      ++options_.life;
      WriterProcess writer(options_);
      ASSERT_TRUE(writer.wait_for(Message::Kind::starting));
      const auto started = steady_clock::now();
      if (one_in(3)) {
        // While it opens the log and recovers what the last one left, and what that one left.
        writer.listen(microseconds(between(0, static_cast<std::uint64_t>(opening.count()))),
                      [] { return false; });
      } else {
        ASSERT_TRUE(writer.wait_for(Message::Kind::opened));
        opening = std::chrono::duration_cast<microseconds>(steady_clock::now() - started);
        const bool is_long = one_in(10);
        const auto enough = between(1, is_long ? 3000 : 300);
        writer.listen(milliseconds(between(1, is_long ? 150 : 30)),
                      [&] { return writer.appends() >= enough; });
      }
      ASSERT_TRUE(writer.kill()) << "the writer ended by itself";
      kills_while_opening += writer.has_said(Message::Kind::opened) ? 0 : 1;
      look_at_the_log(writer);
      if (const auto* opened = writer.last(Message::Kind::opened);
          opened != nullptr && closed_cleanly) {
        EXPECT_NE(opened->flags & Message::kClosedCleanly, 0U);
      }
      closed_cleanly = false;
      // Else the next writer recovers.
      if ((one_in(5) || kill + 1 == kills) && !HasFailure()) {
        recover_here();
        closed_cleanly = true;
      }
    }
    if (!HasFailure()) {
      verify_all();
    }
    fmt::print("{} kills, {} of them while opening; {} records\n", kills, kills_while_opening,
               knowledge().end());
  }

  std::filesystem::path scratch_;
  std::uint64_t seed_ = 0;
  std::mt19937_64 random_;
  WriterOptions options_;
  std::optional<Knowledge> knowledge_;
};

// A writer to kill.
struct Case {
  const char* name;
  WriterOptions options;
  friend void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }
};

class EveryWriterKillTest : public KillTest, public ::testing::WithParamInterface<Case> {};

TEST_P(EveryWriterKillTest, LosesNothingThatWasAcknowledged) {
  auto options = GetParam().options;
  options.directory = options_.directory;
  options.seed = options_.seed;
  options_ = options;
  if (options_.io == "direct" && direct_is_refused()) {
    GTEST_SKIP() << "this disk refuses direct I/O";
  }
  kill_again_and_again(kKills);
}

constexpr auto kNoRing = WalOptions::kNoRing;
constexpr auto kSmallRing = 64 * kKiB;
constexpr auto kSmallSegments = 64 * kKiB;

// Direct I/O is for logs with a ring only.
const std::array kCases = {
    Case{"AlwaysDirect", {.policy = "always", .io = "direct"}},
    Case{"AlwaysBufferedThreads", {.policy = "always", .io = "buffered", .threads = 3}},
    Case{"AlwaysDirectThreadsBatches",
         {.policy = "always", .io = "direct", .threads = 3, .batch_records_max = 5}},
    Case{"AlwaysNoRing", {.policy = "always", .ring_bytes = kNoRing}},
    Case{"AlwaysNoRingBufferedThreads",
         {.policy = "always", .io = "buffered", .ring_bytes = kNoRing, .threads = 3}},
    Case{"BatchDirectThreads",
         {.policy = "batch", .io = "direct", .threads = 3, .batch_records_max = 20}},
    Case{"BatchBuffered", {.policy = "batch", .io = "buffered", .batch_records_max = 3}},
    Case{"BatchNoRingThreads", {.policy = "batch", .ring_bytes = kNoRing, .threads = 3}},
    Case{"BatchNoRingBuffered",
         {.policy = "batch", .io = "buffered", .ring_bytes = kNoRing, .batch_records_max = 7}},
    Case{"OsDirect", {.policy = "os", .io = "direct"}},
    Case{"OsBufferedThreadsBatches",
         {.policy = "os", .io = "buffered", .threads = 3, .batch_records_max = 20}},
    Case{"OsNoRingThreads", {.policy = "os", .ring_bytes = kNoRing, .threads = 3}},
    Case{"OsNoRingBuffered", {.policy = "os", .io = "buffered", .ring_bytes = kNoRing}},
    // The ring goes round within milliseconds.
    Case{"OsSmallRingThreads",
         {.policy = "os", .ring_bytes = kSmallRing, .threads = 3, .batch_records_max = 3}},
    // Threads stop for a moment in the middle of a copy.
    Case{"OsHesitatingThreads",
         {.policy = "os", .threads = 3, .batch_records_max = 3, .hesitates = 1}},
    // Segments that a few hundred records fill, ended early, deleted soon.
    Case{"OsSmallSegmentsRotateAndDelete",
         {.policy = "os",
          .ring_bytes = kSmallRing,
          .segment_bytes = kSmallSegments,
          .batch_records_max = 5,
          .rotate_every = 40,
          .deletes = 1}},
    Case{"BatchSmallSegmentsRotateAndDeleteThreads",
         {.policy = "batch",
          .io = "buffered",
          .ring_bytes = kSmallRing,
          .segment_bytes = kSmallSegments,
          .threads = 3,
          .rotate_every = 20,
          .deletes = 1,
          .hesitates = 1}},
    Case{"AlwaysSmallSegmentsRotateAndDeleteThreads",
         {.policy = "always",
          .ring_bytes = kSmallRing,
          .segment_bytes = kSmallSegments,
          .threads = 3,
          .batch_records_max = 20,
          .rotate_every = 25,
          .deletes = 1}},
    Case{"OsNoRingSmallSegmentsRotateAndDelete",
         {.policy = "os",
          .ring_bytes = kNoRing,
          .segment_bytes = kSmallSegments,
          .threads = 2,
          .batch_records_max = 3,
          .rotate_every = 30,
          .deletes = 1}},
};

INSTANTIATE_TEST_SUITE_P(Kill, EveryWriterKillTest, ::testing::ValuesIn(kCases),
                         [](const auto& one) { return std::string(one.param.name); });

// Goal: an append returns only when every frame placed before its own is complete.
// Method: a thread is held in the middle of its copy for ever; another one appends as far as it
// gets; then SIGKILL. Nothing that was acknowledged may stand behind a hole.
TEST_F(KillTest, AnAppendHeldInTheMiddleOfItsCopyLeavesNoHoleBeforeAReturnedOne) {
  const std::array<const char*, 3> policies = {"os", "batch", "always"};
  for (int round = 0; round < 6 && !HasFailure(); ++round) {
    SCOPED_TRACE(fmt::format("round {} (NORI_KILL_SEED={})", round, seed_));
    ++options_.life;
    options_.act = "hold";
    options_.policy = policies[static_cast<std::size_t>(round) % policies.size()];
    options_.threads = 2 + static_cast<std::uint64_t>(round) % 2;
    options_.hold_at = between(0, 200);
    WriterProcess writer(options_);
    ASSERT_TRUE(writer.wait_for(Message::Kind::held));
    writer.listen(milliseconds(between(20, 100)), [] { return false; });
    ASSERT_TRUE(writer.kill()) << "the writer ended by itself";
    // The one that is held has not returned.
    EXPECT_TRUE(std::ranges::none_of(writer.messages(), [&](const Message& message) {
      return message.kind == Message::Kind::appended && message.thread == 0 &&
             message.append == options_.hold_at;
    }));
    look_at_the_log(writer);
  }
  if (!HasFailure()) {
    recover_here();
    verify_all();
  }
}

// A child made by fork() has the parent's Wal: everything it asks answers `closed`, the parent goes
// on, and the child does not hold the lock when the parent is dead.
TEST_F(KillTest, AForkedChildCanNeitherUseTheLogNorKeepIt) {
  options_.act = "fork";
  ++options_.life;
  WriterProcess writer(options_);
  ASSERT_TRUE(writer.wait_for(Message::Kind::forked));
  const auto child = static_cast<pid_t>(writer.last(Message::Kind::forked)->append);
  ASSERT_GT(child, 0);
  EXPECT_TRUE(writer.wait_for(Message::Kind::child_done));
  const auto appends = writer.appends();
  EXPECT_TRUE(writer.listen(std::chrono::seconds(20), [&] {
    return writer.appends() > appends + 100;
  })) << "the parent does not go on";
  EXPECT_TRUE(writer.kill());

  std::uint64_t answers = 0;
  for (const auto& message : writer.messages()) {
    if (message.kind == Message::Kind::child_answer) {
      ++answers;
      EXPECT_EQ(message.append, static_cast<std::uint64_t>(ErrorCode::closed))
          << "call " << message.thread;
    }
  }
  EXPECT_EQ(answers, 14U);
  EXPECT_EQ(::kill(child, 0), 0) << "the child is to be alive still";
  look_at_the_log(writer);
  recover_here();
  ::kill(child, SIGKILL);
  verify_all();
}

TEST_F(KillTest, ForkingInTheMiddleOfAppendsHarmsNothing) {
  options_.act = "fork_often";
  options_.threads = 2;
  for (const auto* policy : {"os", "batch", "always"}) {
    ++options_.life;
    options_.policy = policy;
    WriterProcess writer(options_);
    int forks = 0;
    EXPECT_TRUE(writer.listen(std::chrono::seconds(60),
                              [&] {
                                forks = static_cast<int>(std::ranges::count(
                                    writer.messages(), Message::Kind::forked, &Message::kind));
                                return forks >= 10;
                              }))
        << forks << " forks";
    ASSERT_TRUE(writer.kill()) << "the writer ended by itself";
    look_at_the_log(writer);
  }
  recover_here();
  verify_all();
}

TEST_F(KillTest, ASecondWriterIsToldWhoHoldsTheLog) {
  ++options_.life;
  WriterProcess writer(options_);
  ASSERT_TRUE(writer.wait_for(Message::Kind::appended));
  for (const auto mode : {OpenMode::create, OpenMode::existing}) {
    auto options = options_.wal_options();
    options.mode = mode;
    const auto opened = Wal::open(options);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, ErrorCode::locked);
    std::array<char, 256> host{};
    ASSERT_EQ(::gethostname(host.data(), host.size() - 1), 0);
    EXPECT_NE(opened.error().message.find(std::to_string(writer.process())), std::string::npos)
        << opened.error().message;
    EXPECT_NE(opened.error().message.find(host.data()), std::string::npos)
        << opened.error().message;
  }
  // Nobody was disturbed.
  const auto appends = writer.appends();
  EXPECT_TRUE(
      writer.listen(std::chrono::seconds(20), [&] { return writer.appends() > appends + 100; }));
  EXPECT_TRUE(writer.kill());
  look_at_the_log(writer);
  recover_here();
  verify_all();
}

TEST_F(KillTest, ASecondWriterProcessEndsAndTheFirstGoesOn) {
  ++options_.life;
  WriterProcess writer(options_);
  ASSERT_TRUE(writer.wait_for(Message::Kind::appended));
  {
    WriterProcess second(options_);
    second.listen(std::chrono::seconds(20), [&] { return second.has_said(Message::Kind::opened); });
    EXPECT_FALSE(second.has_said(Message::Kind::opened)) << "two writers at once";
    EXPECT_FALSE(second.kill()) << "the second writer waits instead of failing";
  }
  EXPECT_TRUE(writer.kill());
  look_at_the_log(writer);
  recover_here();
}

// A reader in this process follows a log that other processes write to, one after the other, each
// of them killed: what it returned stands, and it goes on with what the next one appends.
class FollowerKillTest : public KillTest {
 protected:
  void follow_through_kills() {
    ++options_.life;
    auto writer = std::make_unique<WriterProcess>(options_);
    ASSERT_TRUE(writer->wait_for(Message::Kind::appended));
    auto read_only = options_.wal_options();
    read_only.mode = OpenMode::read_only;
    auto opened = Wal::open(read_only);
    ASSERT_TRUE(opened) << opened.error().message;
    auto reader = opened->wal.read_from(begin_of_log);
    ASSERT_TRUE(reader) << reader.error().message;

    std::vector<RecordId> followed;
    std::atomic<Sequence> until{~Sequence{0}};
    std::string went_wrong;
    std::thread follower([&] {
      while (followed.size() < until.load()) {
        const auto more = reader->follow(milliseconds(20));
        if (!more) {
          went_wrong = "follow: " + more.error().message;
          return;
        }
        while (*more) {
          const auto entry = reader->next();
          if (!entry) {
            went_wrong = "next: " + entry.error().message;
            return;
          }
          if (!*entry) {
            break;
          }
          const auto id = RecordId::from_key((*entry)->key);
          if ((*entry)->sequence != followed.size() || !id ||
              !knowledge().workload().matches(*id, **entry)) {
            went_wrong = fmt::format("record {} is wrong: sequence {}, key {}", followed.size(),
                                     (*entry)->sequence, (*entry)->key);
            return;
          }
          followed.push_back(*id);
        }
      }
    });

    for (int kill = 0; kill < 4; ++kill) {
      const auto enough = between(1, 3000);
      writer->listen(milliseconds(between(10, 150)), [&] { return writer->appends() >= enough; });
      EXPECT_TRUE(writer->kill()) << "the writer ended by itself";
      look_at_the_log(*writer);
      if (HasFailure()) {
        break;
      }
      if (kill < 3) {
        ++options_.life;
        writer = std::make_unique<WriterProcess>(options_);
        EXPECT_TRUE(writer->wait_for(Message::Kind::opened));
      }
    }
    if (!HasFailure()) {
      recover_here();
    }
    until = knowledge().end();
    // It has all of it at once, or there is something wrong.
    const auto deadline = steady_clock::now() + std::chrono::seconds(20);
    std::thread watch([&] {
      while (steady_clock::now() < deadline && until.load() != 0) {
        std::this_thread::sleep_for(milliseconds(5));
      }
      until = 0;
    });
    follower.join();
    until = 0;
    watch.join();
    EXPECT_EQ(went_wrong, "");
    EXPECT_EQ(followed.size(), knowledge().end());
  }
};

TEST_F(FollowerKillTest, FollowsTheRing) {
  options_.policy = "os";
  options_.threads = 2;
  options_.batch_records_max = 3;
  follow_through_kills();
}

TEST_F(FollowerKillTest, FollowsAcrossSegments) {
  options_.policy = "batch";
  options_.threads = 2;
  options_.ring_bytes = kSmallRing;
  options_.segment_bytes = kSmallSegments;
  options_.rotate_every = 50;
  follow_through_kills();
}

TEST_F(FollowerKillTest, FollowsWithoutARing) {
  options_.policy = "always";
  options_.ring_bytes = kNoRing;
  options_.segment_bytes = kSmallSegments;
  follow_through_kills();
}

}  // namespace
}  // namespace nori::writer_tests
