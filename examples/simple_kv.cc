// A key-value store in a page: a map in memory, rebuilt from the log when it is opened. An update
// is a newer record, a delete a tombstone. What it lacks, snapshots and compaction, keeps the log
// growing.

#include <nori/wal.h>

#include <iostream>
#include <map>
#include <optional>
#include <string>

namespace {

class SimpleKv {
 public:
  static nori::Result<SimpleKv> open(const std::string& directory) {
    auto opened = nori::Wal::open({.directory = directory});
    if (!opened) {
      return std::unexpected(opened.error());
    }
    SimpleKv store(std::move(opened->wal));
    auto reader = store.wal_.read_from(nori::begin_of_log);
    if (!reader) {
      return std::unexpected(reader.error());
    }
    for (const auto& entry : *reader) {
      if (!entry) {
        return std::unexpected(entry.error());
      }
      if (entry->op == nori::Operation::put) {
        store.map_.insert_or_assign(std::string(entry->key), std::string(entry->value));
      } else {
        store.map_.erase(std::string(entry->key));
      }
    }
    return store;
  }

  // The log first, then the map: what get() answers survives a power cut.
  nori::Result<void> put(const std::string& key, const std::string& value) {
    if (auto done = append(nori::Record::put(key, value)); !done) {
      return done;
    }
    map_.insert_or_assign(key, value);
    return {};
  }

  nori::Result<void> remove(const std::string& key) {
    if (auto done = append(nori::Record::remove(key)); !done) {
      return done;
    }
    map_.erase(key);
    return {};
  }

  [[nodiscard]] std::optional<std::string> get(const std::string& key) const {
    const auto found = map_.find(key);
    return found == map_.end() ? std::nullopt : std::optional(found->second);
  }

 private:
  explicit SimpleKv(nori::Wal wal) : wal_(std::move(wal)) {}

  nori::Result<void> append(const nori::Record& record) {
    auto appended = wal_.append(record, nori::Durability::durable);
    return appended ? nori::Result<void>{} : std::unexpected(appended.error());
  }

  nori::Wal wal_;
  std::map<std::string, std::string> map_;
};

nori::Result<void> fill(const std::string& directory) {
  auto store = SimpleKv::open(directory);
  if (!store) {
    return std::unexpected(store.error());
  }
  for (const auto& [key, value] : {std::pair{"user:1", "alice@example.com"},
                                   {"user:2", "carol@example.com"},
                                   {"user:1", "bob@example.com"}}) {
    if (auto done = store->put(key, value); !done) {
      return done;
    }
  }
  return store->remove("user:2");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: simple_kv DIRECTORY\n";
    return 2;
  }
  if (auto filled = fill(argv[1]); !filled) {
    std::cerr << filled.error().message << '\n';
    return 1;
  }
  const auto store = SimpleKv::open(argv[1]);
  if (!store) {
    std::cerr << store.error().message << '\n';
    return 1;
  }
  std::cout << "user:1 is " << store->get("user:1").value_or("absent") << ", user:2 is "
            << store->get("user:2").value_or("absent") << '\n';
  return store->get("user:1") == "bob@example.com" && !store->get("user:2") ? 0 : 1;
}
