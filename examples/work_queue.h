// A work queue: jobs in a log, workers that are its consumers and take turns by sequence. A job is
// run at least once: a worker that dies leaves what it had not committed to the next one of its
// name. A job that fails goes to the end of the log with its count of tries, and after three of
// them to a log of dead letters.
//
// tests/examples/work_queue_test.cc crashes it at every operation of a simulated disk.

#pragma once

#include <nori/consumer.h>
#include <nori/wal.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace work_queue {

inline constexpr int kTriesMax = 3;
inline constexpr int kJobsPerCommit = 8;
inline constexpr std::uint64_t kWorkers = 2;

// Runs a job and says whether it went well. The job may be run again all the same: what it does has
// to bear that.
using Handler = std::function<bool(std::string_view job)>;

struct Queue {
  nori::Wal jobs;  // Key: the job. Value: how often it was tried.
  nori::Wal dead;
};

class Worker {
 public:
  static nori::Result<Worker> open(Queue& queue, std::uint64_t number) {
    auto consumer = queue.jobs.consumer("worker-" + std::to_string(number));
    if (!consumer) {
      return std::unexpected(consumer.error());
    }
    return Worker(queue, std::move(*consumer), number);
  }

  // Runs what there is to do, `jobs_max` jobs at most, and returns how many it has run. They are
  // committed only if it found no more.
  nori::Result<int> run(const Handler& handle, int jobs_max) {
    int jobs = 0;
    while (jobs < jobs_max) {
      const auto job = consumer_.next();
      if (!job) {
        return std::unexpected(job.error());
      }
      if (!*job) {
        if (auto committed = consumer_.commit(consumer_.position()); !committed) {
          return std::unexpected(committed.error());
        }
        break;
      }
      if ((*job)->sequence % kWorkers != number_) {
        continue;  // Another worker's.
      }
      if (!handle((*job)->key)) {
        if (auto put_off = put_off_job(**job); !put_off) {
          return std::unexpected(put_off.error());
        }
      }
      // What was run since the last commit is run again after a crash. One per job would be cheap
      // enough, and repeat less.
      if (++jobs % kJobsPerCommit == 0) {
        if (auto committed = consumer_.commit((*job)->end); !committed) {
          return std::unexpected(committed.error());
        }
      }
    }
    return jobs;
  }

 private:
  Worker(Queue& queue, nori::Consumer consumer, std::uint64_t number)
      : queue_(&queue), consumer_(std::move(consumer)), number_(number) {}

  // Durable before the job is committed: from then on this record is all there is of it.
  nori::Result<void> put_off_job(const nori::Entry& job) {
    const auto tries = std::stoi(std::string(job.value)) + 1;
    auto& log = tries < kTriesMax ? queue_->jobs : queue_->dead;
    const auto appended =
        log.append(nori::Record::put(job.key, std::to_string(tries)), nori::Durability::durable);
    return appended ? nori::Result<void>{} : std::unexpected(appended.error());
  }

  Queue* queue_;
  nori::Consumer consumer_;
  std::uint64_t number_;
};

}  // namespace work_queue
