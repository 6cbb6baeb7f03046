// The store beside the stores of others: random keys of 16 bytes, values of 100.

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "bench/expect.h"
#include "bench/files.h"
#include "bench/peers/map_peer.h"
#include "bench/process.h"
#include "bench/rows.h"
#include "bench/stopwatch.h"
#include "nori/store.h"

namespace nori::bench {
namespace {

constexpr std::size_t kValueBytes = 100;
constexpr std::size_t kPairBytes = kKeyBytes + kValueBytes;
constexpr std::uint64_t kBatch = 100;
/// Loading takes much longer than what is measured.
constexpr std::uint32_t kRoundsMax = 3;

std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccd;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53;
  return x ^ (x >> 33);
}

enum class Order : std::uint8_t { random, ascending };

/// Pair `index` of those a round writes: the same ones for every subject.
class Pairs {
 public:
  explicit Pairs(Order order) : order_(order), value_(kValueBytes * kValues, 'v') {
    for (std::size_t i = 0; i < value_.size(); ++i) {
      value_[i] = static_cast<char>(mixed(i));
    }
  }

  KeyValue make(std::uint64_t index, char (&key)[kKeyBytes]) const {
    const std::uint64_t halves[2] = {
        order_ == Order::random ? mixed(index) : __builtin_bswap64(index), mixed(index + 1)};
    std::memcpy(key, halves, kKeyBytes);
    return {.key = {key, kKeyBytes},
            .value = std::string_view(value_).substr(index % kValues * kValueBytes, kValueBytes)};
  }

 private:
  static constexpr std::uint64_t kValues = 100;
  Order order_;
  std::string value_;
};

Measurement rate_of(std::uint64_t records, const Elapsed& elapsed) {
  Measurement measured;
  const auto count = static_cast<double>(records);
  measured.values["records_per_s"] = count / elapsed.seconds;
  measured.values["cpu_s_per_million"] = elapsed.cpu_seconds / count * 1e6;
  return measured;
}

void put_all(MapPeer& peer, const Pairs& pairs, std::uint64_t count, std::uint64_t batch) {
  char keys[kBatch][kKeyBytes];
  std::vector<KeyValue> together(batch);
  for (std::uint64_t i = 0; i < count; i += batch) {
    for (std::uint64_t j = 0; j < batch; ++j) {
      together[j] = pairs.make(i + j, keys[j]);
    }
    if (batch == 1) {
      peer.put(together.front());
    } else {
      peer.put_batch(together);
    }
  }
}

Measurement load_round(const MapPeerKind& kind, Order order, std::uint64_t batch,
                       const Setting& setting) {
  const Scratch scratch(setting.directory, kind.name);
  malloc_trim(0);  // what an earlier subject has given back
  const double resident = resident_bytes();
  const Pairs pairs(order);
  const auto peer = kind.open(scratch.path(), Survives::process);
  const Stopwatch watch;
  put_all(*peer, pairs, setting.store_keys, batch);
  auto measured = rate_of(setting.store_keys, watch.elapsed());
  measured.values["resident_mb"] = (resident_bytes() - resident) / 1e6;
  return measured;
}

Subject load_subject(const MapPeerKind& kind, Order order, std::uint64_t batch,
                     const Setting& setting) {
  return {.name = kind.name,
          .what = kind.what,
          .ours = kind.ours,
          .compared_by = "records_per_s",
          .run_round = [=] { return load_round(kind, order, batch, setting); }};
}

Row load_row(std::string name, std::string what, Order order, std::uint64_t batch,
             const Setting& setting) {
  Row row{.name = std::move(name),
          .what = fmt::format(
              "{} M pairs {}, into an empty store; one thread; they survive the process. Memory of "
              "LMDB is the page cache's; the others' data is {:.0f} MB.",
              static_cast<double>(setting.store_keys) / 1e6, what,
              static_cast<double>(setting.store_keys * kPairBytes) / 1e6),
          .rounds = std::min(setting.rounds, kRoundsMax),
          .subjects = {load_subject(nori_map(), order, batch, setting)}};
  for (const auto& kind : maps()) {
    row.subjects.push_back(load_subject(kind, order, batch, setting));
  }
  return row;
}

/// A store that was loaded in random order, by whoever needs it first.
struct Loaded {
  Loaded(const MapPeerKind& kind, const Setting& setting)
      : scratch(setting.directory, kind.name), peer(kind.open(scratch.path(), Survives::process)) {
    put_all(*peer, Pairs(Order::random), setting.store_keys, kBatch);
    peer->settle();
  }
  Scratch scratch;
  std::unique_ptr<MapPeer> peer;
};

Measurement get_round(MapPeer& peer, const Setting& setting) {
  const Pairs pairs(Order::random);
  std::atomic<std::uint64_t> found = 0;
  static std::uint64_t round = 0;
  const auto seed = ++round << 40;
  const Stopwatch watch;
  const auto gets = repeat_for(setting.seconds, 256, [&](std::uint64_t i) {
    char key[kKeyBytes];
    const auto pair = pairs.make(mixed(seed + i) % setting.store_keys, key);
    found += peer.get(pair.key) == kValueBytes ? 1 : 0;
    return true;
  });
  const auto elapsed = watch.elapsed();
  if (found != gets) {
    throw std::runtime_error(fmt::format("{} of {} keys were there", found.load(), gets));
  }
  return rate_of(gets, elapsed);
}

Measurement scan_round(MapPeer& peer, const Setting& setting) {
  const Stopwatch watch;
  const auto bytes = peer.scan();
  const auto elapsed = watch.elapsed();
  if (bytes != setting.store_keys * kPairBytes) {
    throw std::runtime_error(fmt::format("{} bytes were scanned", bytes));
  }
  return rate_of(setting.store_keys, elapsed);
}

Subject read_subject(const MapPeerKind& kind, Measurement (*round)(MapPeer&, const Setting&),
                     const Setting& setting) {
  const auto loaded = std::make_shared<std::unique_ptr<Loaded>>();
  return {.name = kind.name,
          .what = kind.what,
          .ours = kind.ours,
          .compared_by = "records_per_s",
          .run_round = [=] {
            if (!*loaded) {
              *loaded = std::make_unique<Loaded>(kind, setting);
            }
            return round(*(*loaded)->peer, setting);
          }};
}

/// This store, loaded, checkpointed, and opened again from the snapshot.
MapPeerKind nori_opened() {
  auto kind = nori_map();
  kind.name = "nori-opened";
  kind.what = "the same, opened from a snapshot";
  class Opened final : public MapPeer {
   public:
    Opened(const std::filesystem::path& directory, Survives survives)
        : directory_(directory), survives_(survives), peer_(nori_map().open(directory, survives)) {}
    void put(const KeyValue& pair) override { peer_->put(pair); }
    void put_batch(std::span<const KeyValue> pairs) override { peer_->put_batch(pairs); }
    std::optional<std::size_t> get(std::string_view key) override { return peer_->get(key); }
    std::uint64_t scan() override { return peer_->scan(); }
    void settle() override {
      peer_.reset();
      {
        auto opened = expect(Store::open({.wal = {.directory = directory_}}));
        expect(opened.store.checkpoint());
      }
      peer_ = nori_map().open(directory_, survives_);
    }

   private:
    std::filesystem::path directory_;
    Survives survives_;
    std::unique_ptr<MapPeer> peer_;
  };
  kind.open = open_map_as<Opened>;
  return kind;
}

Row read_row(std::string name, std::string what, Measurement (*round)(MapPeer&, const Setting&),
             const Setting& setting) {
  Row row{.name = std::move(name),
          .what = fmt::format("{} of {} M pairs that were put in random order, one thread.", what,
                              static_cast<double>(setting.store_keys) / 1e6),
          .rounds = std::min(setting.rounds, kRoundsMax),
          .subjects = {read_subject(nori_map(), round, setting),
                       read_subject(nori_opened(), round, setting)}};
  for (const auto& kind : maps()) {
    row.subjects.push_back(read_subject(kind, round, setting));
  }
  return row;
}

// --- Durable puts

Measurement durable_round(const MapPeerKind& kind, std::size_t threads, const Setting& setting) {
  const Scratch scratch(setting.directory, kind.name);
  const auto peer = kind.open(scratch.path(), Survives::machine);
  const Pairs pairs(Order::random);
  std::atomic<std::uint64_t> puts = 0;
  std::vector<std::exception_ptr> thrown(threads);
  const Stopwatch watch;
  {
    std::vector<std::jthread> writers;
    for (std::size_t thread = 0; thread < threads; ++thread) {
      writers.emplace_back([&, thread] {
        try {
          puts += repeat_for(setting.seconds, 1, [&](std::uint64_t i) {
            char key[kKeyBytes];
            peer->put(pairs.make(i * threads + thread, key));
            return true;
          });
        } catch (...) {
          thrown[thread] = std::current_exception();
        }
      });
    }
  }
  for (const auto& what : thrown) {
    if (what) {
      std::rethrow_exception(what);
    }
  }
  return rate_of(puts, watch.elapsed());
}

Subject durable_subject(const MapPeerKind& kind, std::size_t threads, const Setting& setting) {
  return {.name = kind.name,
          .what = kind.what,
          .ours = kind.ours,
          .compared_by = "records_per_s",
          .run_round = [=] { return durable_round(kind, threads, setting); }};
}

// --- Opening

/// A closed store, made once.
struct Closed {
  Closed(const Setting& setting, bool with_snapshot) : scratch(setting.directory, "store-open") {
    auto opened = expect(Store::open(options()));
    Batch batch;
    const Pairs pairs(Order::random);
    for (std::uint64_t i = 0; i < setting.store_keys; ++i) {
      char key[kKeyBytes];
      const auto pair = pairs.make(i, key);
      batch.put(pair.key, pair.value);
      if (batch.record_count() == kBatch) {
        expect(opened.store.write(batch));
        batch.clear();
      }
    }
    if (with_snapshot) {
      expect(opened.store.checkpoint());
    }
    expect(opened.store.close());
  }
  [[nodiscard]] StoreOptions options() const {
    StoreOptions options;
    options.wal.directory = scratch.path();
    options.checkpoints.garbage_ratio = 0;
    return options;
  }
  Scratch scratch;
};

Subject open_subject(bool with_snapshot, const Setting& setting) {
  const auto closed = std::make_shared<std::unique_ptr<Closed>>();
  return {.name = with_snapshot ? "nori-snapshot" : "nori-log",
          .what = with_snapshot ? "from a snapshot" : "from the log alone",
          .ours = true,
          .compared_by = "",
          .run_round = [=] {
            if (!*closed) {
              *closed = std::make_unique<Closed>(setting, with_snapshot);
            }
            malloc_trim(0);
            const double resident = resident_bytes();
            const Stopwatch watch;
            const auto opened = expect(Store::open((*closed)->options()));
            const auto elapsed = watch.elapsed();
            if (opened.store.stats().keys != setting.store_keys) {
              throw std::runtime_error("not all keys are there");
            }
            auto measured = rate_of(setting.store_keys, elapsed);
            measured.values["resident_mb"] = (resident_bytes() - resident) / 1e6;
            return measured;
          }};
}

// --- Checkpoints

Measurement beside_round(bool with_checkpoints, const Setting& setting) {
  const Scratch scratch(setting.directory, "store-beside");
  StoreOptions options;
  options.wal.directory = scratch.path();
  options.wal.fsync = FsyncPolicy::os();
  options.checkpoints.garbage_ratio = 0;
  auto store = expect(Store::open(options)).store;
  const Pairs pairs(Order::random);
  Batch batch;
  for (std::uint64_t i = 0; i < setting.store_keys; ++i) {
    char key[kKeyBytes];
    const auto pair = pairs.make(i, key);
    batch.put(pair.key, pair.value);
    if (batch.record_count() == kBatch) {
      expect(store.write(batch));
      batch.clear();
    }
  }
  std::atomic<bool> done = false;
  std::exception_ptr thrown;
  Measurement measured;
  const Stopwatch watch;
  {
    std::jthread checkpoints([&] {
      try {
        if (with_checkpoints) {
          expect(store.checkpoint());
        } else {
          std::this_thread::sleep_for(std::chrono::duration<double>(setting.seconds));
        }
      } catch (...) {
        thrown = std::current_exception();
      }
      done = true;
    });
    for (std::uint64_t i = 0; !done; ++i) {
      char key[kKeyBytes];
      const auto pair = pairs.make(mixed(i) % setting.store_keys, key);
      const auto began = Clock::now();
      expect(store.put(pair.key, pair.value));
      measured.latencies_ns.push_back(static_cast<std::uint64_t>(
          std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - began).count()));
    }
  }
  if (thrown) {
    std::rethrow_exception(thrown);
  }
  measured.values = rate_of(measured.latencies_ns.size(), watch.elapsed()).values;
  return measured;
}

}  // namespace

Row store_put_row(const Setting& setting) {
  return load_row("store-put", "one by one, in random order", Order::random, 1, setting);
}

Row store_batch_row(const Setting& setting) {
  return load_row("store-batch", "in atomic batches of 100, in random order", Order::random, kBatch,
                  setting);
}

Row store_ascending_row(const Setting& setting) {
  return load_row("store-ascending", "in atomic batches of 100, in the order of their keys",
                  Order::ascending, kBatch, setting);
}

Row store_durable_64_row(const Setting& setting) {
  constexpr std::size_t kThreads = 64;
  Row row{.name = "store-durable-64",
          .what = "Pairs that survive the machine, one by one; 64 threads. nori: policy `always`.",
          .rounds = setting.rounds,
          .subjects = {durable_subject(nori_map(), kThreads, setting)}};
  for (const auto& kind : {rocksdb_map(), leveldb_map()}) {
    if (kind) {
      row.subjects.push_back(durable_subject(*kind, kThreads, setting));
    }
  }
  return row;
}

Row store_get_row(const Setting& setting) {
  return read_row("store-get", "Random keys", get_round, setting);
}

Row store_scan_row(const Setting& setting) {
  return read_row("store-scan", "All, in order,", scan_round, setting);
}

Row store_open_row(const Setting& setting) {
  return {.name = "store-open",
          .what = fmt::format("Opening a store of {} M pairs, in the page cache.",
                              static_cast<double>(setting.store_keys) / 1e6),
          .rounds = std::min(setting.rounds, kRoundsMax),
          .subjects = {open_subject(true, setting), open_subject(false, setting)}};
}

Row store_checkpoint_row(const Setting& setting) {
  const auto subject = [&](bool with_checkpoint) {
    return Subject{
        .name = with_checkpoint ? "beside" : "alone",
        .what = with_checkpoint ? "for as long as a checkpoint takes" : "without a checkpoint",
        .ours = with_checkpoint,
        .compared_by = "records_per_s",
        .run_round = [=] { return beside_round(with_checkpoint, setting); }};
  };
  return {.name = "store-checkpoint",
          .what = fmt::format("Random puts over {} M pairs, beside a checkpoint; one thread.",
                              static_cast<double>(setting.store_keys) / 1e6),
          .rounds = std::min(setting.rounds, kRoundsMax),
          .subjects = {subject(true), subject(false)}};
}

}  // namespace nori::bench
