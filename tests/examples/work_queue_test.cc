// Goal: examples/work_queue.h loses no job, wherever the machine dies.
// Method: two workers, which die themselves now and then, get jobs done on a disk that dies at
// every operation, in every form. Workers that come after it have to find all that is left to do:
// each job was done, before or after, or is a dead letter.

#include "examples/work_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "testing/crash_points.h"
#include "testing/simulated_disk.h"

namespace work_queue {
namespace {

using nori::testing::SimulatedDisk;

constexpr int kJobs = 24;
constexpr std::string_view kNeverGoesWell = "job-3";

nori::WalOptions options_on(SimulatedDisk& disk, std::string_view name) {
  nori::WalOptions options;
  options.directory = name;
  options.file_system = &disk;
  options.fsync = nori::FsyncPolicy::os();
  options.segment_bytes = options.ring_bytes = 64 * nori::kKiB;
  options.background_thread = false;
  return options;
}

nori::Result<Queue> open_queue(SimulatedDisk& disk) {
  auto jobs = nori::Wal::open(options_on(disk, "jobs"));
  if (!jobs) {
    return std::unexpected(jobs.error());
  }
  auto dead = nori::Wal::open(options_on(disk, "dead"));
  if (!dead) {
    return std::unexpected(dead.error());
  }
  return Queue{std::move(jobs->wal), std::move(dead->wal)};
}

// Every seventh job fails the first time in a process, one of them always.
class Jobs {
 public:
  bool run(std::string_view job) {
    const bool first = tried_.emplace(job).second;
    const bool well = job != kNeverGoesWell && !(first && job.back() == '7');
    done_[std::string(job)] += well ? 1 : 0;
    return well;
  }
  [[nodiscard]] int times_done(const std::string& job) const {
    const auto found = done_.find(job);
    return found == done_.end() ? 0 : found->second;
  }

 private:
  std::set<std::string, std::less<>> tried_;
  std::map<std::string, int> done_;
};

// False: the disk is dead.
bool work(Queue& queue, Jobs& jobs, std::uint64_t number, int jobs_max) {
  auto worker = Worker::open(queue, number);
  return worker && worker->run([&](auto job) { return jobs.run(job); }, jobs_max);
}

struct Told {
  bool queued = false;
  Jobs jobs;
};

std::shared_ptr<Told> live(SimulatedDisk& disk) {
  auto told = std::make_shared<Told>();
  auto queue = open_queue(disk);
  if (!queue) {
    return told;
  }
  nori::Batch batch;
  for (int i = 0; i < kJobs; ++i) {
    batch.put("job-" + std::to_string(i), "0");
  }
  told->queued = queue->jobs.append(batch, nori::Durability::durable).has_value();
  // The first two workers die after nine jobs, one of them not committed.
  for (std::uint64_t life = 0; life < 5; ++life) {
    if (!work(*queue, told->jobs, life % kWorkers, life < 2 ? 9 : 1'000)) {
      return told;
    }
    // What was put off stands in the segment behind.
    if (life > 2 && !(queue->jobs.rotate() &&
                      queue->jobs.delete_segments_before(queue->jobs.current_position()))) {
      return told;
    }
  }
  return told;
}

TEST(WorkQueueCrashTest, EveryJobIsDoneOrADeadLetterWhateverCrashes) {
  std::uint64_t crashes = 0;
  nori::testing::for_each_crash_point(
      SimulatedDisk{}, live,
      [&](const SimulatedDisk& dead, const Told& told, std::uint64_t operations) {
        for (const auto& form : nori::testing::kCrashForms) {
          SCOPED_TRACE("operation " + std::to_string(operations) + ", " + std::string(form.name));
          const auto disk = nori::testing::crashed_copy(dead, form, operations);
          auto queue = open_queue(*disk);
          ASSERT_TRUE(queue) << queue.error().message;
          ++crashes;
          auto jobs = told.jobs;
          for (std::uint64_t life = 0; life < 6; ++life) {
            ASSERT_TRUE(work(*queue, jobs, life % kWorkers, 1'000));
          }
          if (!told.queued) {
            continue;
          }
          std::set<std::string> dead_letters;
          auto reader = queue->dead.read_from(nori::begin_of_log);
          ASSERT_TRUE(reader) << reader.error().message;
          for (const auto& entry : *reader) {
            ASSERT_TRUE(entry) << entry.error().message;
            dead_letters.emplace(entry->key);
          }
          ASSERT_EQ(dead_letters, std::set<std::string>{std::string(kNeverGoesWell)});
          for (int i = 0; i < kJobs; ++i) {
            const auto job = "job-" + std::to_string(i);
            ASSERT_TRUE(job == kNeverGoesWell || jobs.times_done(job) > 0) << job;
          }
        }
      });
  EXPECT_GT(crashes, 400 / nori::testing::kCrashPointStride);
}

}  // namespace
}  // namespace work_queue
