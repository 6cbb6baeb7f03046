#include "tests/power/promises.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace nori::power_tests {

void Promises::hear(std::uint64_t life, const Message& message) {
  said_.push_back({.life = life, .message = message});
}

bool Promises::log_exists(const Moment& moment) const { return known(moment).log_exists; }

Promises::Known Promises::known(const Moment& moment) const {
  auto known = before_;
  for (std::size_t i = 0; i < said_.size(); ++i) {
    const auto& message = said_[i].message;
    // A deletion may have gone further by then than was heard.
    if (message.kind == Message::Kind::deleting && said_[i].life <= moment.life) {
      known.deleted_before = std::max(known.deleted_before, message.end);
    }
    if (i >= moment.messages) {
      continue;
    }
    switch (message.kind) {
      case Message::Kind::opened:  // what open() keeps is durable
        known.log_exists = true;
        known.durable = std::max(known.durable, message.first);
        break;
      case Message::Kind::durable:
        known.durable = std::max(known.durable, message.end);
        break;
      case Message::Kind::appended:
        known.durable = std::max(known.durable, appended_is_durable_ ? message.end : 0);
        break;
      case Message::Kind::deleted:
        known.first = std::max(known.first, message.first);
        break;
      default:
        break;
    }
  }
  return known;
}

std::vector<RecordId> Promises::records(std::uint64_t last_life) const {
  std::vector<RecordId> records(left_.first, RecordId{.count = 0});
  records.insert(records.end(), left_.records.begin(), left_.records.end());
  for (const auto& [life, message] : said_) {
    if (life > last_life) {
      break;
    }
    if (message.kind == Message::Kind::opened) {
      // A kill loses nothing that was acknowledged, nor does opening what a power cut has left.
      EXPECT_GE(message.first, records.size()) << "life " << life << " begins with less";
      records.resize(message.first, RecordId{.count = 0});
    } else if (message.kind == Message::Kind::appended) {
      records.resize(std::max(records.size(), message.end), RecordId{.count = 0});
      RecordId id{.life = life,
                  .thread = message.thread,
                  .append = message.append,
                  .count = message.end - message.first};
      for (; id.index < id.count; ++id.index) {
        records[message.first + id.index] = id;
      }
    }
  }
  return records;
}

std::optional<Dump> Promises::check(const Wal& wal, const Moment& moment) const {
  auto dump = writer_tests::read_and_check(wal, workload_);
  if (!dump) {
    return dump;
  }
  const auto promised = known(moment);
  EXPECT_GE(dump->end(), promised.durable) << "durable and lost";
  EXPECT_GE(dump->first, promised.first) << "deleted segments have come back";
  EXPECT_LE(dump->first, promised.deleted_before) << "more was deleted than was asked for";
  const auto expected = records(moment.life);
  for (auto sequence = dump->first; sequence < std::min(dump->end(), expected.size()); ++sequence) {
    const auto& found = dump->records[sequence - dump->first];
    if (expected[sequence].count != 0 && expected[sequence] != found) {
      ADD_FAILURE() << found.key() << " stands at sequence " << sequence
                    << ", where append() placed " << expected[sequence].key();
      break;
    }
  }
  return dump;
}

void Promises::go_on_from(Dump dump, const Moment& moment) {
  // What has come through one power cut is on the disk.
  before_ = {.log_exists = log_exists(moment),
             .durable = dump.end(),
             .first = dump.first,
             .deleted_before = dump.first};
  left_ = std::move(dump);
  said_.clear();
}

}  // namespace nori::power_tests
