// How to crash-test what you build on a log: accounts, whose balances are what the log's records
// add up to. A transfer is a batch, so that no crash may lose or make money; what was durable
// stays.
//
// The machine dies at every step of the work, in each of the ways of testing/crash_points.h, on a
// disk that is worse than real ones. Nothing here takes a real disk.

#include <nori/wal.h>

#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "testing/crash_points.h"
#include "testing/simulated_disk.h"

namespace {

constexpr int kTransfers = 20;

nori::WalOptions options_on(nori::testing::SimulatedDisk& disk) {
  nori::WalOptions options;
  options.directory = "accounts";
  options.file_system = &disk;
  options.fsync = nori::FsyncPolicy::os();
  options.segment_bytes = options.ring_bytes = 64 * nori::kKiB;
  options.background_thread = false;  // so that each run does the same
  return options;
}

// What the process had been told when it died.
struct Told {
  int durable = 0;  ///< Transfers.
};

// The work. It goes on until the disk dies, or to its end.
std::shared_ptr<Told> transfer(nori::testing::SimulatedDisk& disk) {
  auto told = std::make_shared<Told>();
  auto opened = nori::Wal::open(options_on(disk));
  if (!opened) {
    return told;
  }
  for (int i = 0; i < kTransfers; ++i) {
    nori::Batch batch;
    batch.put("ada", "-5");
    batch.put("bob", "+5");
    if (!opened->wal.append(batch) || (i % 3 == 2 && !opened->wal.sync())) {
      return told;
    }
    if (i % 3 == 2) {
      told->durable = i + 1;
    }
  }
  return told;
}

// The state, made anew from what the log holds.
std::optional<std::map<std::string, int>> balances(nori::testing::SimulatedDisk& disk) {
  auto opened = nori::Wal::open(options_on(disk));
  if (!opened) {
    return std::nullopt;
  }
  std::map<std::string, int> accounts;
  auto reader = opened->wal.read_from(nori::begin_of_log);
  for (const auto& entry : *reader) {
    if (!entry) {
      return std::nullopt;
    }
    accounts[std::string(entry->key)] += std::stoi(std::string(entry->value));
  }
  return accounts;
}

}  // namespace

int main() {
  int crashes = 0;
  int failures = 0;
  const nori::testing::SimulatedDisk blank;
  nori::testing::for_each_crash_point(
      blank, transfer,
      [&](const nori::testing::SimulatedDisk& dead, const Told& told, std::uint64_t operations) {
        for (const auto& form : nori::testing::kCrashForms) {
          const auto disk = nori::testing::crashed_copy(dead, form, operations);
          auto accounts = balances(*disk);
          ++crashes;
          if (!accounts || (*accounts)["ada"] + (*accounts)["bob"] != 0 ||
              (*accounts)["bob"] < 5 * told.durable) {
            std::printf("operation %llu, %s: money was lost or made\n",
                        static_cast<unsigned long long>(operations),
                        std::string(form.name).c_str());
            ++failures;
          }
        }
      });
  std::printf("%d crashes, %d of them lost or made money\n", crashes, failures);
  return failures == 0 ? 0 : 1;
}
