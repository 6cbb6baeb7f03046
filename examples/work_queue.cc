// Two workers, of which four die, get 200 jobs done, some of which fail at first and two for ever.

#include "work_queue.h"

#include <iostream>
#include <map>
#include <string>
#include <string_view>

namespace {

using work_queue::Queue;
using work_queue::Worker;

std::map<std::string, std::string> dead_letters(const Queue& queue) {
  std::map<std::string, std::string> jobs;
  auto reader = queue.dead.read_from(nori::begin_of_log).value();
  for (const auto& entry : reader) {
    jobs.emplace(entry.value().key, entry.value().value);
  }
  return jobs;
}

bool run(const std::string& directory) {
  Queue queue{nori::Wal::open({.directory = directory + "/jobs"}).value().wal,
              nori::Wal::open({.directory = directory + "/dead"}).value().wal};
  constexpr int kJobs = 200;
  nori::Batch batch;
  for (int i = 0; i < kJobs; ++i) {
    batch.put("job-" + std::to_string(i), "0");
  }
  // Workers see only what is durable: a job that was run is one that no power cut takes back.
  queue.jobs.append(batch, nori::Durability::durable).value();

  std::map<std::string, int> tried;
  std::map<std::string, int> done;
  const auto handle = [&](std::string_view job) {
    const auto number = std::stoi(std::string(job.substr(4)));
    const auto tries = ++tried[std::string(job)];
    const bool well = number != 33 && number != 34 && (number % 7 != 0 || tries > 1);
    done[std::string(job)] += well ? 1 : 0;
    return well;
  };

  // Four workers die when they have run 13 jobs, and committed eight. Dropping a consumer writes
  // what was committed; a process that dies may take the last milliseconds of that with it.
  constexpr int kCrashes = 4;
  for (std::uint64_t crash = 0; crash < kCrashes; ++crash) {
    Worker::open(queue, crash % work_queue::kWorkers).value().run(handle, 13).value();
  }
  // The others live until there is nothing left, of what failed neither.
  for (int ran = 1; ran > 0;) {
    ran = 0;
    for (std::uint64_t number = 0; number < work_queue::kWorkers; ++number) {
      ran += Worker::open(queue, number).value().run(handle, 1'000'000).value();
    }
  }
  // What no worker needs any more; what one had not committed would stay.
  queue.jobs.rotate().value();
  const auto deleted = queue.jobs.delete_segments_before(queue.jobs.current_position()).value();

  int jobs_done = 0;
  int repeated = 0;
  for (const auto& [job, times] : done) {
    jobs_done += times > 0 ? 1 : 0;
    repeated += times > 1 ? times - 1 : 0;
  }
  const auto given_up = dead_letters(queue);
  std::cout << jobs_done << " of " << kJobs << " jobs done, " << given_up.size()
            << " given up after " << work_queue::kTriesMax << " tries\n"
            << kCrashes << " workers died: " << repeated << " jobs were done twice\n"
            << "segments of the log that nobody needs any more, and are gone: " << deleted << '\n';
  const std::map<std::string, std::string> bad{{"job-33", "3"}, {"job-34", "3"}};
  return jobs_done == kJobs - 2 && given_up == bad && repeated > 0 &&
         repeated <= kCrashes * work_queue::kJobsPerCommit && deleted == 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: work_queue DIRECTORY\n";
    return 2;
  }
  try {
    return run(arguments[1]) ? 0 : 1;
  } catch (const std::bad_expected_access<nori::Error>& failed) {
    std::cerr << failed.error().message << '\n';
    return 1;
  }
}
