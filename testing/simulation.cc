#include "testing/simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iterator>
#include <memory>
#include <utility>

#include "nori/wal.h"
#include "testing/random.h"
#include "testing/recovered_log.h"
#include "testing/reference_model.h"
#include "testing/simulated_disk.h"

namespace nori::testing {
namespace {

constexpr std::uint64_t kBlockBytes = 4096;
constexpr std::int64_t kHourMs = 60 * 60 * 1000;

Step random_step(Random& random) {
  const auto value_bytes = random_value_bytes(random);
  switch (random.below(21)) {
    case 0:
    case 1:
      return sync();
    case 2:
      return wait_durable();
    case 3:
      return rotate();
    case 4:
    case 5:
      return delete_old();
    case 6:  // more than a quarter of a ring; more than a segment
      return append(1, random.chance(64) ? 70'000 : 17'000);
    case 7:
    case 8:
      return append_batch(1 + random.below(20), value_bytes);
    case 9:
    case 10:
      return append_durable(1 + random.below(2), value_bytes);
    case 11:
      return try_append(1 + random.below(4), value_bytes);
    case 12:
      return follow();
    case 13:
      return random.coin() ? read() : follow();
    case 14:
      return compact(random.chance(64) ? 1 + random.below(40) : 0, random.chance(32));
    default:
      return append(1 + random.below(8), value_bytes);
  }
}

// Of what is made from the log, and what goes by it.
Step random_derived_step(Random& random) {
  constexpr std::uint64_t kBacks[] = {0, 0, 1, 5, 20, 1000};
  constexpr std::uint64_t kMaxBytes[] = {0, 0, 1, 200'000};
  const auto consumer = random.below(kCappedConsumers + 1);
  const auto back = kBacks[random.below(std::size(kBacks))];
  switch (random.below(14)) {
    case 0:
    case 1:
    case 2:
      return consume(consumer, 1 + random.below(random.coin() ? 4 : 40), back);
    case 3:
      return commit(consumer, back);
    case 4:
    case 5:
      return flush(consumer);
    case 6:
      return seek(consumer, back);
    case 7:
      return random.coin() ? leave(consumer) : drop(consumer);
    case 8:
    case 9:
      return begin_snapshot(back, 1 + random.below(3));
    case 10:
    case 11:
      return finish_snapshot();
    default:
      // The clock goes by whole hours, or some milliseconds.
      return retain(kMaxBytes[random.below(std::size(kMaxBytes))],
                    random.coin() ? kHourMs / 2 : 3 * kHourMs / 2);
  }
}

Life random_life(Random& random, IoMode io, bool has_derived) {
  constexpr FsyncPolicy::Kind kPolicies[] = {FsyncPolicy::Kind::os, FsyncPolicy::Kind::batch,
                                             FsyncPolicy::Kind::os, FsyncPolicy::Kind::always};
  Life life;
  life.fsync = kPolicies[random.below(std::size(kPolicies))];
  // Small ones are where their edges are met.
  life.ring_bytes = 64 * kKiB << (random.chance(64) ? random.below(3) : 0);
  life.segment_bytes = 64 * kKiB << (random.chance(64) ? random.below(3) : 0);
  if (io == IoMode::buffered && random.coin()) {
    life.ring_bytes = WalOptions::kNoRing;
  }
  life.verification = random.chance(64) ? Verification::all : Verification::tail;
  if (!random.chance(32)) {
    // Often within the recovery.
    life.crash_after = random.below(random.coin() ? 12 : 80);
  }
  if (random.chance(40)) {
    life.fault = random_fault(random);
  }
  const auto steps = random.below(12);
  for (std::uint64_t step = 0; step < steps; ++step) {
    life.script.push_back(has_derived && random.below(5) < 2 ? random_derived_step(random)
                                                             : random_step(random));
  }
  if (random.chance(96)) {
    life.script.push_back(close());
  }
  life.crash_form = random.coin() ? 0 : random.below(std::size(kCrashForms));
  life.crash_seed = random.next();
  if (random.chance(40)) {
    life.damage_seed = random.next();
  }
  life.clock_ms = static_cast<std::int64_t>(random.below(100)) - 20;
  if (has_derived && random.chance(64)) {
    life.clock_ms += (static_cast<std::int64_t>(random.below(6)) - 1) * kHourMs;
  }
  return life;
}

WalOptions options_of(const Simulation& simulation, const Life& life) {
  auto options = small_options();
  options.fsync = life.fsync == FsyncPolicy::Kind::always  ? FsyncPolicy::always()
                  : life.fsync == FsyncPolicy::Kind::batch ? FsyncPolicy::batch()
                                                           : FsyncPolicy::os();
  options.io = simulation.io;
  options.padding = simulation.padding;
  options.ring_bytes = life.ring_bytes;
  options.segment_bytes = life.segment_bytes;
  options.verification = life.verification;
  return options;
}

// Bit rot, a lost write, a misdirected one, a file cut short or gone.
void damage(SimulatedDisk& disk, Random& random) {
  const auto names = disk.list_files("log");
  if (!names || names->empty()) {
    return;
  }
  const auto path = "log/" + (*names)[random.below(names->size())];
  auto bytes = disk.read_file(path);
  if (!bytes || bytes->empty()) {
    return;  // a directory
  }
  const auto block_of = [&](std::uint64_t at) {
    const auto from = at / kBlockBytes * kBlockBytes;
    const auto end = std::min<std::uint64_t>(from + kBlockBytes, bytes->size());
    return std::span(*bytes).subspan(from, end - from);
  };
  const auto at = random.below(bytes->size());
  switch (random.below(6)) {
    case 0:
      std::ranges::fill(block_of(at), std::byte{0});
      break;
    case 1: {
      const auto from = block_of(random.below(bytes->size()));
      const auto to = block_of(at);
      std::copy_n(from.begin(), std::min(from.size(), to.size()), to.begin());
      break;
    }
    case 2:
      bytes->resize(at);
      break;
    case 3:
      if (random.chance(64)) {
        (void)disk.remove_file(path);
        return;
      }
      [[fallthrough]];
    default:
      (*bytes)[at] ^= std::byte{1} << random.below(8);
      break;
  }
  (void)disk.write_file(path, *bytes);
}

// Damage may cost records, and be noticed or not (docs/recovery.md); what is returned was appended.
std::string look_at_damaged(SimulatedDisk& disk, WalOptions options,
                            const ReferenceLog& reference) {
  options.file_system = &disk;
  options.mode = OpenMode::read_only;
  options.verification = Verification::all;
  const auto opened = Wal::open(options);
  if (!opened) {
    return {};
  }
  auto reader = opened->wal.read_from(begin_of_log, {.skip_damaged = true});
  if (!reader) {
    return {};
  }
  for (;;) {
    const auto next = reader->next();
    if (!next) {
      if (next.error().code != ErrorCode::damaged) {
        return {};
      }
      continue;
    }
    if (!*next) {
      return {};
    }
    if (auto wrong = reference.compare_damaged((*next)->copy()); !wrong.empty()) {
      return "damaged, and read as if it were not: " + wrong;
    }
  }
}

}  // namespace

std::uint64_t random_value_bytes(Random& random) {
  constexpr std::uint64_t kValueBytes[] = {0, 100, 100, 100, 1000, 1000, 4000, 9000};
  return kValueBytes[random.below(std::size(kValueBytes))];
}

Fault random_fault(Random& random) {
  struct Kind {
    OperationSet operations;
    int system_errno;
    bool drops_pages = false;
  };
  static constexpr Kind kKinds[] = {
      {Operation::write, EIO},
      {Operation::write, ENOSPC},
      {Operation::durable_write, EIO, true},
      {Operation::sync, EIO},
      {Operation::sync, EIO, true},
      {Operation::sync, ENOSPC, true},
      {Operation::directory_sync, EIO},
      {Operation::allocate, ENOSPC},
      {Operation::truncate, EIO},
      {{Operation::create, Operation::open}, EMFILE},
      {Operation::rename, EIO},
      {Operation::remove, EIO},
      {{Operation::read, Operation::status, Operation::list}, EIO},
      {{Operation::map, Operation::lock}, ENOMEM},
  };
  const auto& kind = kKinds[random.below(std::size(kKinds))];
  return {.operations = kind.operations,
          .after = random.below(random.coin() ? 4 : 30),
          .system_errno = kind.system_errno,
          .repeat = random.coin() ? Repeat::once : Repeat::forever,
          .drops_pages = kind.drops_pages};
}

Simulation random_simulation(std::uint64_t seed) {
  Random random(seed);
  Simulation simulation{.seed = seed,
                        .sector_bytes = random.coin() ? 512U : 4096U,
                        .io = random.coin() ? IoMode::direct : IoMode::buffered,
                        .padding = random.chance(170) ? Padding::block : Padding::none};
  const bool has_derived = random.coin();
  const auto lives = 1 + random.below(24);
  for (std::uint64_t life = 0; life < lives; ++life) {
    simulation.lives.push_back(random_life(random, simulation.io, has_derived));
  }
  return simulation;
}

namespace {

std::string simulate_on(SimulatedDisk& disk, const Simulation& simulation) {
  ReferenceLog reference;
  DerivedModel derived;
  bool exists = false;
  bool has_cut_back = false;
  const auto report = [](std::size_t life, const std::string& wrong) {
    return fmt::format("life {}: {}", life, wrong);
  };
  for (std::size_t number = 0; number < simulation.lives.size(); ++number) {
    const auto& life = simulation.lives[number];
    auto options = options_of(simulation, life);
    if (life.crash_after) {
      disk.crash_after(*life.crash_after);
    }
    if (life.fault) {
      disk.inject(*life.fault);
    }
    const auto& form = kCrashForms[life.crash_form];
    {
      CheckedLog log(disk, options, std::move(reference), std::move(derived));
      if (log.run(open())) {
        log.run(life.script);
      }
      log.check_stays_failed();
      const bool is_excused = log.is_excused();
      reference = log.reference();
      derived = log.derived();
      // With no space it opens all the same, and its names may not be durable yet.
      exists = exists || (log.was_opened() && !life.fault);
      // A frame that found no space is cut off, and that is synced, with what was placed before it.
      has_cut_back = has_cut_back ||
                     (life.fault && life.fault->system_errno == ENOSPC && disk.faults_hit() != 0);
      disk.clear_faults();
      if (form.crash == Crash::process) {
        disk.crash_process();
      } else {
        disk.power_cut(life.crash_seed, form.options);
      }
      if (!log.problem().empty()) {
        return report(number, log.problem());
      }
      if (log.error() && !is_excused) {
        return report(number, "an error without a cause: " + log.error()->message);
      }
    }
    if (has_cut_back) {
      options = without_durable_bytes(options);
    }
    auto wrong = watched(disk, options);
    if (wrong.empty()) {
      wrong = look_at(disk, options, reference, derived, form.crash, !exists);
    }
    if (wrong.empty() && life.damage_seed) {
      Random random(*life.damage_seed);
      const auto copy = disk.clone();
      damage(*copy, random);
      wrong = look_at_damaged(*copy, options, reference);
    }
    if (!wrong.empty()) {
      return report(number, fmt::format("{}: {}", form.name, wrong));
    }
    derived.see_clock(TimePoint(std::chrono::milliseconds(disk.now_ms())));
    disk.advance_ms(life.clock_ms);
  }
  Life last;
  last.ring_bytes = simulation.io == IoMode::buffered && simulation.seed % 2 == 0
                        ? WalOptions::kNoRing
                        : last.ring_bytes;
  auto options = options_of(simulation, last);
  if (has_cut_back) {
    options = without_durable_bytes(options);
  }
  const auto wrong = check_recovery(disk, options, reference, Crash::process, !exists);
  return wrong.empty() ? wrong : report(simulation.lives.size(), wrong);
}

}  // namespace

std::string simulate(const Simulation& simulation, std::vector<std::string>* trace) {
  SimulatedDiskOptions options;
  options.seed = simulation.seed;
  options.sector_bytes = simulation.sector_bytes;
  SimulatedDisk disk(options);
  disk.set_tracing(trace != nullptr);
  auto wrong = simulate_on(disk, simulation);
  if (trace != nullptr) {
    *trace = disk.trace();
  }
  return wrong;
}

Simulation shrink(Simulation simulation, const std::function<bool(const Simulation&)>& fails,
                  std::uint64_t attempts) {
  const auto try_instead = [&](Simulation smaller) {
    if (attempts == 0) {
      return false;
    }
    --attempts;
    if (!fails(smaller)) {
      return false;
    }
    simulation = std::move(smaller);
    return true;
  };
  // Takes elements out of a list, half of them at a time, then fewer, then one by one.
  const auto thin_out = [&](auto list_of) {
    bool gained = false;
    for (auto chunk = std::max<std::size_t>(list_of(simulation).size() / 2, 1);; chunk /= 2) {
      for (std::size_t from = 0; from < list_of(simulation).size();) {
        auto smaller = simulation;
        auto& list = list_of(smaller);
        const auto begin = list.begin() + static_cast<std::ptrdiff_t>(from);
        const auto end =
            from + chunk < list.size() ? begin + static_cast<std::ptrdiff_t>(chunk) : list.end();
        list.erase(begin, end);
        if (try_instead(std::move(smaller))) {
          gained = true;
        } else {
          from += chunk;
        }
      }
      if (chunk <= 1) {
        return gained;
      }
    }
  };
  const auto simplify = [&](auto change) {
    auto smaller = simulation;
    return change(smaller) && try_instead(std::move(smaller));
  };
  for (bool gained = true; gained && attempts != 0;) {
    gained = thin_out([](Simulation& all) -> auto& { return all.lives; });
    for (std::size_t i = 0; i < simulation.lives.size(); ++i) {
      const auto life_of = [i](Simulation& all) -> Life& { return all.lives[i]; };
      gained |= thin_out([&](Simulation& all) -> auto& { return life_of(all).script; });
      gained |= simplify([&](Simulation& all) {
        return std::exchange(life_of(all).fault, std::nullopt).has_value();
      });
      gained |= simplify([&](Simulation& all) {
        return std::exchange(life_of(all).damage_seed, std::nullopt).has_value();
      });
      for (std::size_t step = 0; step < simulation.lives[i].script.size(); ++step) {
        const auto step_of = [&](Simulation& all) -> Step& { return life_of(all).script[step]; };
        const auto halve = [&](std::uint64_t Step::* number, std::uint64_t least) {
          while (simplify([&](Simulation& all) {
            auto& value = step_of(all).*number;
            return value > least && (value /= 2, true);
          })) {
            gained = true;
          }
        };
        halve(&Step::times, 1);
        halve(&Step::records, 1);
        halve(&Step::value_bytes, 0);
        halve(&Step::back, 0);
        halve(&Step::skip, 0);
      }
    }
  }
  return simulation;
}

}  // namespace nori::testing
