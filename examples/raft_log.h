// A Raft log store on nori::Wal: what Raft libraries ask of their storage (LogStore and StableStore
// of hashicorp/raft, Storage of etcd, RaftLogStorage of OpenRaft). What each of their test suites
// asks is asked of this one in tests/examples/raft_log_test.cc.
//
// Two kinds of records, and reading them in order is all of recovery:
//
//   key      value                                 says
//   "INDEX"  term, data                            INDEX has this entry, and no higher index has
//   one "state"  vote, what was compacted, last index  no index beyond the last has an entry, nor
//   one
//                                                  that was compacted
//
// Nothing is ever cut off: a conflicting suffix is superseded by what is appended after it. Old
// segments go once a newer state says what they said. All integers are little-endian.

#pragma once

#include <nori/wal.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace raft {

using Index = std::uint64_t;  // Of entries: from 1 on.
using Term = std::uint64_t;

struct EntryId {
  Index index = 0;
  Term term = 0;
  friend bool operator==(const EntryId&, const EntryId&) = default;
};

struct Entry {
  EntryId id;
  std::string data;
  friend bool operator==(const Entry&, const Entry&) = default;
};

struct Vote {
  Term term = 0;
  std::uint64_t candidate = 0;  ///< 0: nobody.
  friend bool operator==(const Vote&, const Vote&) = default;
};

/// What every call has written is durable when it returns. One append is there in full after a
/// crash, or not at all.
///
/// Errors are the log's. One with a position has written all the same, not durably, and so it
/// stands here too; after `io` the log has to be opened again, and may or may not have it.
/// Memory: a map node per entry, no data.
/// Threads: one at a time.
class RaftLog {
 public:
  static nori::Result<RaftLog> open(nori::WalOptions options) {
    auto opened = nori::Wal::open(std::move(options));
    if (!opened) {
      return std::unexpected(opened.error());
    }
    RaftLog log(std::move(opened->wal));
    if (auto replayed = log.replay(); !replayed) {
      return std::unexpected(replayed.error());
    }
    return log;
  }

  /// An empty log's is its last_index() + 1.
  [[nodiscard]] Index first_index() const { return state_.compacted.index + 1; }
  [[nodiscard]] Index last_index() const { return state_.last; }
  [[nodiscard]] Vote vote() const { return state_.vote; }

  /// Also of the entry before the first, so that a leader can match it. Nothing beyond the last;
  /// `gone` before that.
  [[nodiscard]] nori::Result<std::optional<Term>> term(Index index) const {
    if (index < state_.compacted.index) {
      return std::unexpected(gone(index));
    }
    if (index == state_.compacted.index) {
      return state_.compacted.term;
    }
    const auto place = places_.find(index);
    return place == places_.end() ? std::nullopt : std::optional(place->second.term);
  }

  /// Nothing beyond the last; `gone` before the first.
  [[nodiscard]] nori::Result<std::optional<Entry>> get(Index index) const {
    auto found = entries(index, index + 1);
    if (!found) {
      return std::unexpected(found.error());
    }
    return found->empty() ? std::nullopt : std::optional(std::move(found->front()));
  }

  /// Those in [begin, end) that there are, as long as their data has `bytes_max` bytes at most; the
  /// first one always. `gone` before the first.
  [[nodiscard]] nori::Result<std::vector<Entry>> entries(
      Index begin, Index end,
      std::uint64_t bytes_max = std::numeric_limits<std::uint64_t>::max()) const {
    if (begin < first_index()) {
      return std::unexpected(gone(begin));
    }
    std::vector<Entry> found;
    auto place = places_.find(begin);
    if (place == places_.end() || begin >= end) {
      return found;
    }
    auto reader = wal_.read_from(place->second.position);
    if (!reader) {
      return std::unexpected(reader.error());
    }
    std::uint64_t bytes = 0;
    for (const auto& record : *reader) {
      if (!record) {
        return std::unexpected(record.error());
      }
      if (record->sequence != place->second.position.sequence) {
        continue;  // Superseded, or a state.
      }
      const auto data = record->value.substr(kTermBytes);
      bytes += data.size();
      if (!found.empty() && bytes > bytes_max) {
        break;
      }
      found.push_back({{place->first, place->second.term}, std::string(data)});
      if (++place == places_.end() || place->first >= end) {
        break;
      }
    }
    return found;
  }

  /// `entries`, whose indices follow each other, are the log's last from now on: what it had from
  /// the first of their indices on is superseded. Those that were compacted are left out.
  /// `invalid_argument` where they would leave a gap; nothing was done.
  [[nodiscard]] nori::Result<void> append(std::span<const Entry> entries) {
    // Committed, so that whoever sends it again sends the same.
    while (!entries.empty() && entries.front().id.index < first_index()) {
      entries = entries.subspan(1);
    }
    if (entries.empty()) {
      return {};
    }
    nori::Batch batch;
    auto next = entries.front().id.index;
    if (next > last_index() + 1) {
      return std::unexpected(refused("entry " + std::to_string(next) + " leaves a gap"));
    }
    for (const auto& [id, data] : entries) {
      if (id.index != next++) {
        return std::unexpected(refused("entries that do not follow each other"));
      }
      std::string value;
      put(value, id.term);
      batch.put(std::to_string(id.index), value += data);
    }
    const auto appended = wal_.append(batch, nori::Durability::durable);
    if (auto position = written(appended)) {
      for (const auto& entry : entries) {
        apply_entry(entry.id, *position);
        ++position->sequence;  // A batch's records follow each other, in one frame.
      }
    }
    return done(appended);
  }

  /// The entries from `from` on are gone. `gone` where some of them were compacted.
  [[nodiscard]] nori::Result<void> delete_from(Index from) {
    if (from < first_index()) {
      return std::unexpected(gone(from));
    }
    return from > last_index() ? nori::Result<void>{}
                               : save({state_.vote, state_.compacted, from - 1});
  }

  [[nodiscard]] nori::Result<void> save_vote(const Vote& vote) {
    return save({vote, state_.compacted, state_.last});
  }

  /// The entries up to `through` are in a snapshot, and gone from here; so are those behind it if
  /// `through` is not the entry this log has there: they belong to another history. Deletes the
  /// segments that nothing needs any more. Where that fails the entries are gone all the same, and
  /// the next call deletes them.
  [[nodiscard]] nori::Result<void> compact_to(const EntryId& through) {
    if (through.index >= first_index()) {
      const auto place = places_.find(through.index);
      const bool ours = place != places_.end() && place->second.term == through.term;
      if (auto saved = save({state_.vote, through, ours ? last_index() : through.index}); !saved) {
        return saved;
      }
    }
    const auto needed =
        places_.empty() ? state_at_ : std::min(state_at_, places_.begin()->second.position);
    const auto deleted = wal_.delete_segments_before(needed);
    return deleted ? nori::Result<void>{} : std::unexpected(deleted.error());
  }

  [[nodiscard]] nori::Result<void> close() { return wal_.close(); }

 private:
  struct Place {
    Term term = 0;
    nori::Position position;
  };
  struct State {
    Vote vote;
    EntryId compacted;
    Index last = 0;
  };
  static constexpr std::string_view kStateKey = "state";
  static constexpr std::size_t kTermBytes = 8;
  static constexpr std::size_t kStateBytes = 40;

  explicit RaftLog(nori::Wal wal) : wal_(std::move(wal)) {}

  nori::Result<void> replay() {
    auto reader = wal_.read_from(nori::begin_of_log);
    if (!reader) {
      return std::unexpected(reader.error());
    }
    for (const auto& record : *reader) {
      if (!record) {
        return std::unexpected(record.error());
      }
      auto value = record->value;
      if (record->key == kStateKey && value.size() == kStateBytes) {
        State state;
        for (auto* field : {&state.vote.term, &state.vote.candidate, &state.compacted.index,
                            &state.compacted.term, &state.last}) {
          *field = take(value);
        }
        apply_state(state, record->position);
      } else if (const auto index = parse(record->key); index && value.size() >= kTermBytes) {
        apply_entry({*index, take(value)}, record->position);
      } else {
        return std::unexpected(
            refused("record " + std::to_string(record->sequence) + " is none of a Raft log's"));
      }
    }
    // Between the first record left and the first state there may have been what no longer counts.
    if (places_.size() != state_.last - state_.compacted.index ||
        (!places_.empty() && places_.begin()->first != first_index())) {
      return std::unexpected(nori::Error{nori::ErrorCode::damaged, "entries are missing"});
    }
    return {};
  }

  // What a record says, now and at every opening.
  void apply_entry(const EntryId& id, const nori::Position& position) {
    places_.erase(places_.lower_bound(id.index), places_.end());
    places_.emplace_hint(places_.end(), id.index, Place{id.term, position});
    state_.last = id.index;
  }
  void apply_state(const State& state, const nori::Position& position) {
    places_.erase(places_.upper_bound(state.last), places_.end());
    places_.erase(places_.begin(), places_.upper_bound(state.compacted.index));
    state_ = state;
    state_at_ = position;
  }

  nori::Result<void> save(const State& state) {
    std::string value;
    for (const auto field : {state.vote.term, state.vote.candidate, state.compacted.index,
                             state.compacted.term, state.last}) {
      put(value, field);
    }
    const auto appended =
        wal_.append(nori::Record::put(kStateKey, value), nori::Durability::durable);
    if (const auto position = written(appended)) {
      apply_state(state, *position);
    }
    return done(appended);
  }

  // Where an append stands in the log, whether or not it could be made durable.
  static std::optional<nori::Position> written(const nori::Result<nori::Appended>& appended) {
    return appended ? appended->position : appended.error().position;
  }
  static nori::Result<void> done(const nori::Result<nori::Appended>& appended) {
    return appended ? nori::Result<void>{} : std::unexpected(appended.error());
  }
  static nori::Error gone(Index index) {
    return {nori::ErrorCode::gone, "entry " + std::to_string(index) + " was compacted"};
  }
  static nori::Error refused(std::string why) {
    return {nori::ErrorCode::invalid_argument, std::move(why)};
  }

  static void put(std::string& bytes, std::uint64_t number) {
    for (int shift = 0; shift < 64; shift += 8) {
      bytes.push_back(static_cast<char>(number >> shift));
    }
  }
  static std::uint64_t take(std::string_view& bytes) {
    std::uint64_t number = 0;
    for (int shift = 0; shift < 64; shift += 8) {
      number |= std::uint64_t{static_cast<unsigned char>(bytes.front())} << shift;
      bytes.remove_prefix(1);
    }
    return number;
  }
  static std::optional<Index> parse(std::string_view key) {
    Index index = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
    return error == std::errc{} && end == key.data() + key.size() ? std::optional(index)
                                                                  : std::nullopt;
  }

  nori::Wal wal_;
  std::map<Index, Place> places_;  // Of the entries there are: consecutive.
  State state_;
  nori::Position state_at_;  // Of the newest state's record.
};

}  // namespace raft
