#include "log/live_records.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <tuple>
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
};

// Keys are taken in turns: those whose hash ends in `residue`.
struct Part {
  std::uint64_t mask = 0;
  std::uint64_t residue = 0;
  [[nodiscard]] bool has(const Candidate& candidate) const noexcept {
    return (candidate.low & mask) == residue;
  }
};

// Of each key only the newest stays.
void keep_newest(std::vector<Candidate>& candidates) {
  std::ranges::sort(candidates, std::ranges::greater{}, [](const Candidate& candidate) {
    return std::tuple(candidate.high, candidate.low, candidate.index);
  });
  const auto rest = std::ranges::unique(candidates, {}, [](const Candidate& candidate) {
    return std::pair(candidate.high, candidate.low);
  });
  candidates.erase(rest.begin(), rest.end());
}

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
        candidates_most_(std::max<std::uint64_t>(memory_bytes / sizeof(Candidate), 1024)),
        seed_(seed),
        step_(step),
        end_(end) {}

  Result<LiveRecords> run() {
    live_.files.resize(files_.size());
    std::uint64_t records = 0;
    for (const auto& file : files_) {
      records += file.summary.records;
    }
    // Where footers do not say how many there are, all: what is not used is not touched.
    candidates_.reserve(end_ == RangeEnd::log_end ? candidates_most_
                                                  : std::min(candidates_most_, records));
    parts_.push_back({});
    while (!parts_.empty()) {
      const auto part = parts_.back();
      parts_.pop_back();
      NORI_TRY(read(part));
    }
    return std::move(live_);
  }

 private:
  Result<void> read(Part part) {
    candidates_.clear();
    SegmentRangeReader reader(directory_, log_id_, files_, end_);
    const bool is_first = std::exchange(is_first_, false);
    std::uint64_t bytes_told = 0;
    for (;;) {
      const auto next = NORI_TRY(reader.next());
      if (reader.bytes_read() - bytes_told >= kMiB || !next) {
        NORI_TRY(step_(reader.bytes_read() - bytes_told));
        bytes_told = reader.bytes_read();
      }
      if (!next) {
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
      if (!part.has(candidate)) {
        continue;
      }
      if (candidates_.size() == candidates_most_) {
        make_room(part);
        if (!part.has(candidate)) {
          continue;
        }
      }
      candidates_.push_back(candidate);
    }
    keep_newest(candidates_);
    for (const auto& candidate : candidates_) {
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

  // Where the newest of each key fill more than half, half of the keys are left for another turn.
  void make_room(Part& part) {
    keep_newest(candidates_);
    while (candidates_.size() > candidates_most_ / 2) {
      const auto bit = part.mask + 1;
      parts_.push_back({.mask = part.mask | bit, .residue = part.residue | bit});
      part.mask |= bit;
      std::erase_if(candidates_, [&](const Candidate& candidate) { return !part.has(candidate); });
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
  const std::uint64_t candidates_most_;
  const std::uint64_t seed_;
  const CompactionStep& step_;
  const RangeEnd end_;
  bool is_first_ = true;
  std::vector<Part> parts_;
  std::vector<Candidate> candidates_;
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
