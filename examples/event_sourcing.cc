// Event sourcing: the log has what happened to accounts, and an account is what its events add up
// to. A command is decided on an account as it was read, at some version, and its events are
// appended only if the account still has that version: else it is decided again.
//
// A snapshot holds all accounts as they were at a place of the log; opening replays what comes
// behind it. The events themselves all stay.

#include <nori/snapshot.h>
#include <nori/wal.h>

#include <atomic>
#include <cstdint>
#include <iostream>
#include <latch>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

struct Account {
  std::uint64_t version = 0;  // How many events there were.
  std::int64_t cents = 0;

  // An event is what it changed, as text: who reads a dump of the log knows what happened.
  void apply(std::string_view event) {
    ++version;
    cents += std::stoll(std::string(event));
  }
  friend bool operator==(const Account&, const Account&) = default;
};

using Accounts = std::map<std::string, Account>;
using Events = std::vector<std::string>;

// Any number of threads, open() apart.
class Bank {
 public:
  // Returns how many events were replayed.
  nori::Result<std::uint64_t> open(const std::string& directory) {
    auto opened = nori::Wal::open({.directory = directory});
    if (!opened) {
      return std::unexpected(opened.error());
    }
    wal_.emplace(std::move(opened->wal));
    // A damaged one is passed over for the one before: there are more events to replay then.
    auto snapshot = nori::SnapshotReader::open(directory, {.verify = true});
    if (!snapshot) {
      return std::unexpected(snapshot.error());
    }
    nori::Sequence from = 0;
    if (auto& reader = snapshot->reader) {
      from = reader->file().sequence;
      auto entry = reader->next();
      for (; entry && *entry; entry = reader->next()) {
        const std::string value((*entry)->value);
        const auto space = value.find(' ');
        accounts_[std::string((*entry)->key)] = {std::stoull(value),
                                                 std::stoll(value.substr(space))};
      }
      if (!entry) {
        return std::unexpected(entry.error());
      }
    }
    return replay(from, accounts_);
  }

  // Adds the events from `from` on to `accounts`.
  nori::Result<std::uint64_t> replay(nori::Sequence from, Accounts& accounts) const {
    auto reader = wal_->read_from(from);
    if (!reader) {
      return std::unexpected(reader.error());
    }
    std::uint64_t events = 0;
    for (const auto& entry : *reader) {
      if (!entry) {
        return std::unexpected(entry.error());
      }
      accounts[std::string(entry->key)].apply(entry->value);
      ++events;
    }
    return events;
  }

  Account read(const std::string& name) const {
    const std::scoped_lock lock(mutex_);
    const auto found = accounts_.find(name);
    return found == accounts_.end() ? Account{} : found->second;
  }
  Accounts read_all() const {
    const std::scoped_lock lock(mutex_);
    return accounts_;
  }

  // All of `events`, durable on return. False: the account is not at version `expected` any more,
  // and nothing was done. After an error of the wait they stand, and may not survive a power cut.
  nori::Result<bool> append(const std::string& name, std::uint64_t expected, const Events& events) {
    nori::Batch batch;
    for (const auto& event : events) {
      batch.put(name, event);
    }
    std::unique_lock lock(mutex_);  // Versions, log and memory have one order.
    const auto found = accounts_.find(name);
    if ((found == accounts_.end() ? 0 : found->second.version) != expected) {
      return false;
    }
    const auto appended = wal_->append(batch);
    if (!appended) {
      return std::unexpected(appended.error());
    }
    for (const auto& event : events) {
      accounts_[name].apply(event);
    }
    lock.unlock();
    // Others go on meanwhile, and share the flush. What they read is not durable yet; what they
    // append on the strength of it becomes so only together with it.
    const auto durable = wal_->wait_durable(appended->end);
    return durable ? nori::Result<bool>(true) : std::unexpected(durable.error());
  }

  nori::Result<void> snapshot() {
    std::unique_lock lock(mutex_);
    const auto at = wal_->current_position();
    const auto accounts = accounts_;
    lock.unlock();
    auto writer = nori::SnapshotWriter::begin(*wal_, at);
    if (!writer) {
      return std::unexpected(writer.error());
    }
    for (const auto& [name, account] : accounts) {
      const auto value = std::to_string(account.version) + " " + std::to_string(account.cents);
      if (auto added = writer->add({.key = name, .value = value}); !added) {
        return added;
      }
    }
    const auto written = writer->finish();
    return written ? nori::Result<void>{} : std::unexpected(written.error());
  }

 private:
  std::optional<nori::Wal> wal_;
  mutable std::mutex mutex_;
  Accounts accounts_;
};

// A command, decided on an account as it was seen: 30 and a fee, both or none, as long as there is
// enough. False: there was not.
nori::Result<bool> withdraw(Bank& bank, const std::string& name, Account seen,
                            std::atomic<int>& conflicts) {
  for (; seen.cents >= 31; seen = bank.read(name)) {
    auto done = bank.append(name, seen.version, {"-30", "-1"});
    if (!done || *done) {
      return done;
    }
    ++conflicts;
  }
  return false;
}

constexpr std::uint64_t kDeposits = 20;
constexpr std::uint64_t kWithdrawals = 2'000 / 31;  // There is no more, whoever is faster.

bool run(const std::string& directory) {
  Accounts before;
  std::atomic<int> conflicts = 0;
  std::atomic<bool> failed = false;
  {
    Bank bank;
    bank.open(directory).value();
    for (std::uint64_t version = 0; version < kDeposits; ++version) {
      failed = failed || !bank.append("ada", version, {"+100"}).value();
    }
    bank.snapshot().value();
    std::latch both_have_seen(2);
    const auto spend = [&] {
      const auto seen = bank.read("ada");
      both_have_seen.arrive_and_wait();
      auto done = withdraw(bank, "ada", seen, conflicts);
      while (done && *done) {
        done = withdraw(bank, "ada", bank.read("ada"), conflicts);
      }
      if (!done) {
        failed = true;
      }
    };
    std::jthread one(spend);
    std::jthread other(spend);
    one.join();
    other.join();
    before = bank.read_all();
  }
  Bank bank;
  const auto replayed = bank.open(directory).value();
  Accounts from_the_first;
  bank.replay(0, from_the_first).value();
  const auto ada = bank.read("ada");
  std::cout << "ada has " << ada.cents << " cents after " << ada.version << " events, of which "
            << replayed << " were replayed behind the snapshot\n"
            << "decided again, because others were faster: " << conflicts << '\n';
  const Account expected{.version = kDeposits + 2 * kWithdrawals,
                         .cents = 2'000 - 31 * std::int64_t{kWithdrawals}};
  return !failed && conflicts > 0 && ada == expected && replayed == 2 * kWithdrawals &&
         bank.read_all() == before && from_the_first == before;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: event_sourcing DIRECTORY\n";
    return 2;
  }
  try {
    return run(arguments[1]) ? 0 : 1;
  } catch (const std::bad_expected_access<nori::Error>& failed) {
    std::cerr << failed.error().message << '\n';
    return 1;
  }
}
