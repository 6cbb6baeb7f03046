#include "tests/writer/log_check.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>

namespace nori::writer_tests {

std::optional<Dump> read_and_check(const Wal& wal, const Workload& workload, ReadOptions options) {
  auto reader = wal.read_from(begin_of_log, options);
  if (!reader) {
    ADD_FAILURE() << "read_from: " << reader.error().message;
    return std::nullopt;
  }
  Dump dump;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> appends;  // of life and thread
  TimePoint time{};
  std::uint32_t epoch = 0;
  for (const auto& entry : *reader) {
    if (!entry) {
      ADD_FAILURE() << "record " << dump.end() << ": " << entry.error().message;
      return std::nullopt;
    }
    if (dump.records.empty()) {
      dump.first = entry->sequence;
    }
    const auto wrong = [&](std::string_view what) {
      ADD_FAILURE() << fmt::format("record {} (sequence {}, key {}, at {}:{}): {}", dump.end(),
                                   entry->sequence, entry->key, entry->position.segment_id,
                                   entry->position.offset, what);
      return std::nullopt;
    };
    if (entry->sequence != dump.end()) {
      return wrong("sequences are not dense");
    }
    if (entry->position.sequence != entry->sequence || entry->end.sequence != entry->sequence + 1) {
      return wrong("position and end are not the record's");
    }
    if (entry->time < time || entry->epoch.number() < epoch) {
      return wrong("time or epoch goes back");
    }
    time = entry->time;
    epoch = entry->epoch.number();

    const auto id = RecordId::from_key(entry->key);
    if (!id || !workload.matches(*id, *entry)) {
      return wrong("is not a record that was ever appended");
    }
    auto& next = appends[{id->life, id->thread}];
    if (dump.records.empty()) {
      if (id->index != 0) {
        return wrong("the log begins within a batch");
      }
      next = id->append;
    } else if (const auto& before = dump.records.back(); before.index + 1 < before.count) {
      if (id->index != before.index + 1 || id->append != before.append ||
          id->thread != before.thread || id->life != before.life) {
        return wrong("a batch is not whole");
      }
    } else if (id->index != 0 || id->life < before.life) {
      return wrong("is out of order");
    }
    if (id->index == 0) {
      // The first appends of the first life left may have been deleted.
      if (next == 0 && dump.first > 0 &&
          (dump.records.empty() || id->life == dump.records.front().life)) {
        next = id->append;
      }
      if (id->append != next) {
        return wrong(fmt::format("append {} of its thread is missing", next));
      }
      ++next;
    }
    dump.records.push_back(*id);
  }
  if (dump.records.empty()) {
    dump.first = reader->position().sequence;
  } else if (dump.records.back().index + 1 != dump.records.back().count) {
    ADD_FAILURE() << "the last batch is not whole: " << dump.records.back().key();
    return std::nullopt;
  }
  return dump;
}

void Knowledge::hear(std::uint64_t life, const std::vector<Message>& messages) {
  for (const auto& message : messages) {
    switch (message.kind) {
      case Message::Kind::appended: {
        const RecordId id{.life = life,
                          .thread = message.thread,
                          .append = message.append,
                          .count = message.end - message.first};
        EXPECT_EQ(id.count, workload_.records_in(life, id.thread, id.append));
        acknowledged_.push_back({.id = id, .first = message.first});
        break;
      }
      case Message::Kind::deleting:
        deleted_before_ = std::max(deleted_before_, message.end);
        break;
      case Message::Kind::opened:
        EXPECT_EQ(message.flags & Message::kCorruptionDetected, 0U);
        EXPECT_FALSE(log_exists_ && (message.flags & Message::kCreated) != 0);
        EXPECT_EQ(message.first, end()) << "another end than a reader found before";
        log_exists_ = true;
        break;
      default:
        break;
    }
  }
}

void Knowledge::appended(const RecordId& id, const Appended& appended) {
  acknowledged_.push_back({.id = id, .first = appended.sequence});
}

void Knowledge::check(const Wal& wal) {
  const auto dump = read_and_check(wal, workload_);
  if (!dump) {
    return;
  }
  log_exists_ = true;  // its writer may have been killed before it could say so
  // Without deletions the first record left is the first of all.
  EXPECT_LE(dump->first, deleted_before_) << "more was deleted than was asked for";
  EXPECT_GE(dump->first, known_.first) << "deleted records have come back";
  ASSERT_GE(dump->end(), known_.end()) << "records that had been read are gone";
  for (auto sequence = dump->first; sequence < known_.end(); ++sequence) {
    ASSERT_EQ(dump->records[sequence - dump->first], known_.records[sequence - known_.first])
        << "record " << sequence << " has become another one";
  }
  for (const auto& [id, first] : acknowledged_) {
    ASSERT_LE(first + id.count, dump->end())
        << "acknowledged and lost: " << id.key() << " at sequence " << first;
    for (auto sequence = std::max(first, dump->first); sequence < first + id.count; ++sequence) {
      auto expected = id;
      expected.index = sequence - first;
      ASSERT_EQ(dump->records[sequence - dump->first], expected)
          << "another record stands at sequence " << sequence
          << " than append() said: " << dump->records[sequence - dump->first].key();
    }
  }
  // What no reader can see beyond is a prefix of the rest.
  if (const auto durable = read_and_check(wal, workload_, {.visible = Visible::durable}); durable) {
    EXPECT_LE(durable->end(), dump->end());
  }
  acknowledged_.clear();  // in the dump now
  known_ = *dump;
}

std::vector<std::string> listing(const std::string& directory) {
  std::vector<std::string> lines;
  if (!std::filesystem::exists(directory)) {
    return lines;
  }
  const auto add = [&lines](const std::string& path) {
    struct stat status{};
    EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
    lines.push_back(fmt::format("{}: {} bytes, inode {}, changed {}.{:09}, {}.{:09}", path,
                                status.st_size, status.st_ino, status.st_mtim.tv_sec,
                                status.st_mtim.tv_nsec, status.st_ctim.tv_sec,
                                status.st_ctim.tv_nsec));
  };
  add(directory);
  for (const auto& file : std::filesystem::recursive_directory_iterator(directory)) {
    add(file.path().string());
  }
  std::sort(lines.begin(), lines.end());
  return lines;
}

}  // namespace nori::writer_tests
