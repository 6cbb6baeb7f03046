#include "store/loader.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/try.h"
#include "nori/snapshot.h"
#include "store/changes.h"
#include "store/origins.h"
#include "store/run_together.h"

namespace nori {
namespace {

// One stretch of the keys: entries of the snapshot, and what the log says about them.
class Part {
 public:
  Part(std::optional<SnapshotReader> snapshot, Changes& changes, std::shared_ptr<Lives> lives)
      : snapshot_(std::move(snapshot)), changes_(changes), lives_(std::move(lives)) {}

  // The first entry of the snapshot's part is read: its key is where this part begins.
  Result<void> begin() { return read_next(); }
  [[nodiscard]] const std::optional<SnapshotEntry>& next_entry() const { return entry_; }

  // Changes [first, end) of `all` belong to this part.
  Result<void> build(std::span<const Change> all, std::size_t first, std::size_t end) {
    VersionGiver versions(*lives_);
    while (entry_ || first < end) {
      const int order = !entry_ ? 1 : first == end ? -1 : entry_->key.compare(all[first].key());
      if (order < 0) {
        ItemRef item(Item::make(entry_->key, entry_->value, entry_->expires_at));
        versions.give(*item, entry_->epoch, entry_->sequence);
        add(std::move(item));
        ++snapshot_entries;
      } else {
        const bool is_removal = all[first].is_removal();
        auto item = changes_.take(first++);
        if (!is_removal) {
          add(std::move(item));
        }
      }
      if (order <= 0) {
        snapshot_entries += order == 0 ? 1 : 0;
        NORI_TRY(read_next());
      }
    }
    return {};
  }

  IndexBuilder builder;
  Contents::Sums sums;
  std::uint64_t snapshot_entries = 0;

 private:
  void add(ItemRef item) {
    sums.add(*item);
    builder.add(std::move(item));
  }
  Result<void> read_next() {
    if (snapshot_) {
      entry_ = NORI_TRY(snapshot_->next());
    }
    return {};
  }

  std::optional<SnapshotReader> snapshot_;
  std::optional<SnapshotEntry> entry_;
  Changes& changes_;
  const std::shared_ptr<Lives> lives_;
};

// All records from `from` on.
Result<void> replay(const Wal& wal, Sequence from, Changes& changes, LoadedStore& loaded) {
  auto reader = NORI_TRY(wal.read_from(from));
  loaded.end = from;
  for (;;) {
    const auto entry = NORI_TRY(reader.next());
    if (!entry) {
      loaded.end = std::max(loaded.end, reader.position().sequence);
      return {};
    }
    changes.add(*entry);
    loaded.bytes_behind += log_bytes_of(entry->key.size(), entry->value.size());
    loaded.newest_ms = std::max(loaded.newest_ms, ms_of(entry->time));
    loaded.end = entry->end.sequence;
    ++loaded.recovery.records_replayed;
  }
}

Result<void> build(std::optional<SnapshotReader> snapshot, Changes& changes,
                   std::shared_ptr<Lives> lives, unsigned threads, LoadedStore& loaded) {
  const auto all = changes.settle();
  std::vector<Part> parts;
  std::vector<std::size_t> firsts{0};
  if (snapshot) {
    for (auto& reader : snapshot->split(threads)) {
      Part part(std::move(reader), changes, lives);
      NORI_TRY(part.begin());
      if (!parts.empty() && part.next_entry()) {
        firsts.push_back(changes.first_from(part.next_entry()->key));
      } else if (!parts.empty()) {
        continue;  // an empty part
      }
      parts.push_back(std::move(part));
    }
  }
  if (!snapshot || parts.empty()) {
    for (unsigned i = 0; i < threads; ++i) {
      parts.emplace_back(std::nullopt, changes, lives);
      if (i > 0) {
        firsts.push_back(all.size() * i / threads);
      }
    }
  }
  firsts.push_back(all.size());
  std::vector<Result<void>> built(parts.size());
  run_together(parts.size(),
               [&](std::size_t i) { built[i] = parts[i].build(all, firsts[i], firsts[i + 1]); });
  for (auto& part : built) {
    NORI_TRY(std::move(part));
  }
  IndexBuilder builder;
  Contents::Sums sums;
  for (auto& part : parts) {
    builder.append(std::move(part.builder));
    sums.add(part.sums);
    loaded.recovery.snapshot_entries += part.snapshot_entries;
  }
  loaded.contents = Contents(builder.finish(), std::move(lives), sums);
  return {};
}

}  // namespace

Result<LoadedStore> load_store(const Wal& wal, const WalOptions& options, unsigned threads) {
  const auto began = std::chrono::steady_clock::now();
  Origins origins(wal, options);
  for (;;) {
    auto origin = NORI_TRY(origins.next());
    LoadedStore loaded;
    if (origin.snapshot) {
      loaded.newest_ms = ms_of(origin.snapshot->file().created);
      loaded.recovery.snapshot = origin.from;
    }
    auto lives = std::make_shared<Lives>();
    Changes changes(*lives, threads);
    auto part = Origins::Part::log;
    auto read = replay(wal, origin.from, changes, loaded);
    if (read) {
      part = Origins::Part::snapshot;
      read = build(std::move(origin.snapshot), changes, std::move(lives), threads, loaded);
    }
    if (!read) {
      NORI_TRY(origins.go_on_after(origin, part, std::move(read).error()));
      continue;
    }
    if (options.mode != OpenMode::read_only) {
      loaded.end = wal.current_position().sequence;  // compaction may have taken the last ones
    }
    loaded.recovery.skipped_snapshots = origins.take_skipped();
    loaded.recovery.time_taken = std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now() - began);
    return loaded;
  }
}

}  // namespace nori
