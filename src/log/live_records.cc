#include "log/live_records.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "base/try.h"
#include "nori/options.h"

namespace nori {
namespace {

struct Candidate {
  std::uint64_t high = 0;
  std::uint64_t low = 0;    // of the key's hash
  std::uint64_t index = 0;  // in the range; rises with the sequence
  std::uint32_t bytes = 0;
  std::uint32_t file : 30 = 0;
  std::uint32_t is_tombstone : 1 = 0;
  std::uint32_t may_go : 1 = 0;

  [[nodiscard]] bool has_key_of(const Candidate& other) const noexcept {
    return high == other.high && low == other.low;
  }
};

// Keys are taken in turns: those whose hash ends in `residue`.
struct Part {
  std::uint64_t mask = 0;
  std::uint64_t residue = 0;
  [[nodiscard]] bool has(const Candidate& candidate) const noexcept {
    return (candidate.low & mask) == residue;
  }
};

// The newest candidate of each key, found by the key's hash. They come in the order of the log, so
// a later one takes an earlier one's place. (Sorted once all had come, they took as much memory as
// there were records, and a compaction of a few keys' garbage a quarter longer.)
class NewestByKey {
 public:
  NewestByKey(std::uint64_t memory_bytes, std::uint64_t keys_expected)
      : keys_max_(std::clamp<std::uint64_t>(memory_bytes / kBytesPerKey, 1024, UINT32_MAX - 1)) {
    // What is not used is not touched.
    candidates_.reserve(std::min(keys_max_, keys_expected));
    make_slots();
  }

  /// False where its key would be one too many.
  bool add(const Candidate& candidate) {
    auto& slot = slots_[slot_of(candidate)];
    if (slot != kNone) {
      candidates_[slot] = candidate;
      return true;
    }
    if (candidates_.size() == keys_max_) {
      return false;
    }
    slot = static_cast<std::uint32_t>(candidates_.size());
    candidates_.push_back(candidate);
    if (is_too_full()) {
      make_slots();
    }
    return true;
  }

  void erase_if(const auto& unwanted) {
    std::erase_if(candidates_, unwanted);
    make_slots();
  }
  void clear() {
    candidates_.clear();
    make_slots();
  }

  [[nodiscard]] const std::vector<Candidate>& candidates() const noexcept { return candidates_; }
  [[nodiscard]] bool is_more_than_half_full() const noexcept {
    return candidates_.size() > keys_max_ / 2;
  }

 private:
  /// What a key takes of the memory at most, the table of slots included.
  static constexpr std::uint64_t kBytesPerKey = sizeof(Candidate) + 12;
  static constexpr std::uint32_t kNone = UINT32_MAX;
  static constexpr std::size_t kSlotsMin = 1024;

  [[nodiscard]] bool is_too_full() const noexcept {
    return candidates_.size() * 4 > slots_.size() * 3;
  }

  // That of its key, or the empty one where it would be.
  [[nodiscard]] std::size_t slot_of(const Candidate& candidate) const noexcept {
    const auto mask = slots_.size() - 1;
    auto at = candidate.high & mask;
    while (slots_[at] != kNone && !candidates_[slots_[at]].has_key_of(candidate)) {
      at = (at + 1) & mask;
    }
    return at;
  }

  // At most 8/3 of four bytes for each of keys_max_.
  void make_slots() {
    const auto wanted = std::bit_ceil(std::max(candidates_.size() * 4 / 3 + 1, kSlotsMin));
    if (wanted > slots_.size()) {
      slots_ = {};
      slots_.resize(wanted);
    }
    std::ranges::fill(slots_, kNone);
    for (std::uint32_t i = 0; i < candidates_.size(); ++i) {
      slots_[slot_of(candidates_[i])] = i;
    }
  }

  std::uint64_t keys_max_;
  std::vector<Candidate> candidates_;
  std::vector<std::uint32_t> slots_;  ///< A power of two of them.
};

bool has_expired(const Record& record, std::uint64_t now_ms) {
  return record.expires_at && record.expires_at->time_since_epoch() <=
                                  std::chrono::milliseconds(static_cast<std::int64_t>(now_ms));
}

class Finder {
 public:
  Finder(io::Directory& directory, const LogId& log_id, const std::vector<SealedFile>& files,
         const DropRule& rule, std::uint64_t memory_bytes, std::uint64_t seed,
         const CompactionStep& step, RangeEnd end)
      : directory_(directory),
        log_id_(log_id),
        files_(files),
        rule_(rule),
        newest_(memory_bytes, keys_expected(files, end)),
        seed_(seed),
        step_(step),
        end_(end) {}

  Result<LiveRecords> run() {
    live_.files.resize(files_.size());
    parts_.push_back({});
    while (!parts_.empty()) {
      const auto part = parts_.back();
      parts_.pop_back();
      NORI_TRY(read(part));
    }
    return std::move(live_);
  }

 private:
  // Where footers do not say how many there are, any number.
  static std::uint64_t keys_expected(const std::vector<SealedFile>& files, RangeEnd end) {
    if (end == RangeEnd::log_end) {
      return UINT32_MAX;
    }
    std::uint64_t records = 0;
    for (const auto& file : files) {
      records += file.summary.records;
    }
    return records;
  }

  Result<void> read(Part part) {
    newest_.clear();
    SegmentRangeReader reader(directory_, log_id_, files_, end_);
    const bool is_first = std::exchange(is_first_, false);
    std::uint64_t bytes_told = 0;
    for (;;) {
      const auto* const next = NORI_TRY(reader.next());
      if (reader.bytes_read() - bytes_told >= kMiB || next == nullptr) {
        NORI_TRY(step_(reader.bytes_read() - bytes_told));
        bytes_told = reader.bytes_read();
      }
      if (next == nullptr) {
        break;
      }
      const auto candidate = candidate_of(*next);
      if (is_first) {
        auto& file = live_.files[candidate.file];
        ++file.records_all;
        file.bytes_all += candidate.bytes;
        file.tombstones_all += candidate.is_tombstone;
        live_.is_live.push_back(false);
        live_.is_dropped.push_back(false);
      }
      if (part.has(candidate) && !newest_.add(candidate)) {
        make_room(part);
        if (part.has(candidate)) {
          newest_.add(candidate);
        }
      }
    }
    for (const auto& candidate : newest_.candidates()) {
      take(candidate);
    }
    return {};
  }

  Candidate candidate_of(const RangeRecord& read) const {
    const auto& record = read.record.stored.record;
    const auto hash = XXH3_128bits_withSeed(record.key.data(), record.key.size(), seed_);
    Candidate candidate;
    candidate.high = hash.high64;
    candidate.low = hash.low64;
    candidate.index = read.index;
    candidate.bytes = static_cast<std::uint32_t>(read.record.bytes.size());
    candidate.file = static_cast<std::uint32_t>(read.file) & 0x3fff'ffffU;
    candidate.is_tombstone = record.op == Operation::remove ? 1 : 0;
    const bool hides = record.op == Operation::remove || has_expired(record, rule_.now_ms);
    candidate.may_go = hides && read.record.sequence < rule_.before ? 1 : 0;
    return candidate;
  }

  // Half of the keys are left for another turn.
  void make_room(Part& part) {
    while (newest_.is_more_than_half_full()) {
      const auto bit = part.mask + 1;
      parts_.push_back({.mask = part.mask | bit, .residue = part.residue | bit});
      part.mask |= bit;
      newest_.erase_if([&](const Candidate& candidate) { return !part.has(candidate); });
    }
  }

  void take(const Candidate& candidate) {
    auto& file = live_.files[candidate.file];
    if (candidate.may_go != 0) {
      live_.is_dropped[candidate.index] = true;
      ++file.dropped;
      file.dropped_bytes += candidate.bytes;
      return;
    }
    live_.is_live[candidate.index] = true;
    ++file.records;
    file.bytes += candidate.bytes;
  }

  io::Directory& directory_;
  const LogId& log_id_;
  const std::vector<SealedFile>& files_;
  const DropRule& rule_;
  NewestByKey newest_;
  const std::uint64_t seed_;
  const CompactionStep& step_;
  const RangeEnd end_;
  bool is_first_ = true;
  std::vector<Part> parts_;
  LiveRecords live_;
};

}  // namespace

Result<LiveRecords> find_live_records(io::Directory& directory, const LogId& log_id,
                                      const std::vector<SealedFile>& files, const DropRule& rule,
                                      std::uint64_t memory_bytes, std::uint64_t seed,
                                      const CompactionStep& step, RangeEnd end) {
  return Finder(directory, log_id, files, rule, memory_bytes, seed, step, end).run();
}

}  // namespace nori
