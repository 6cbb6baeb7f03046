// SQLite, through its public interface: a table WITHOUT ROWID, in WAL mode.

#include "bench/peers/map_peer.h"

#ifdef NORI_HAVE_SQLITE3
#include <sqlite3.h>

#include <mutex>
#include <stdexcept>
#endif

namespace nori::bench {

#ifdef NORI_HAVE_SQLITE3
namespace {

class SqliteMap final : public MapPeer {
 public:
  SqliteMap(const std::filesystem::path& directory, Survives survives) {
    check(sqlite3_open((directory / "store.db").c_str(), &db_));
    run("PRAGMA journal_mode = WAL");
    run("PRAGMA cache_size = -4000000");
    run(survives == Survives::machine ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = OFF");
    run("CREATE TABLE store (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID");
    prepare("INSERT OR REPLACE INTO store VALUES (?, ?)", insert_);
    prepare("SELECT value FROM store WHERE key = ?", select_);
    prepare("SELECT key, value FROM store ORDER BY key", scan_);
  }
  ~SqliteMap() override {
    for (auto* const statement : {insert_, select_, scan_}) {
      sqlite3_finalize(statement);
    }
    sqlite3_close(db_);
  }

  void put(const KeyValue& pair) override {
    const std::lock_guard lock(mutex_);
    insert(pair);
  }

  void put_batch(std::span<const KeyValue> pairs) override {
    const std::lock_guard lock(mutex_);
    run("BEGIN");
    for (const auto& pair : pairs) {
      insert(pair);
    }
    run("COMMIT");
  }

  std::optional<std::size_t> get(std::string_view key) override {
    bind(select_, 1, key);
    std::optional<std::size_t> found;
    if (sqlite3_step(select_) == SQLITE_ROW) {
      found = static_cast<std::size_t>(sqlite3_column_bytes(select_, 0));
    }
    check(sqlite3_reset(select_));
    return found;
  }

  std::uint64_t scan() override {
    std::uint64_t bytes = 0;
    while (sqlite3_step(scan_) == SQLITE_ROW) {
      bytes += static_cast<std::uint64_t>(sqlite3_column_bytes(scan_, 0) +
                                          sqlite3_column_bytes(scan_, 1));
    }
    check(sqlite3_reset(scan_));
    return bytes;
  }

 private:
  void prepare(const char* text, sqlite3_stmt*& statement) {
    check(sqlite3_prepare_v2(db_, text, -1, &statement, nullptr));
  }
  void bind(sqlite3_stmt* statement, int at, std::string_view bytes) {
    check(sqlite3_bind_blob(statement, at, bytes.data(), static_cast<int>(bytes.size()),
                            SQLITE_STATIC));
  }
  void insert(const KeyValue& pair) {
    bind(insert_, 1, pair.key);
    bind(insert_, 2, pair.value);
    if (sqlite3_step(insert_) != SQLITE_DONE) {
      throw std::runtime_error(std::string("sqlite: ") + sqlite3_errmsg(db_));
    }
    check(sqlite3_reset(insert_));
  }
  void run(const char* statement) {
    check(sqlite3_exec(db_, statement, nullptr, nullptr, nullptr));
  }
  void check(int code) {
    if (code != SQLITE_OK) {
      throw std::runtime_error(std::string("sqlite: ") + sqlite3_errmsg(db_));
    }
  }

  std::mutex mutex_;  // one statement for all threads
  sqlite3* db_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
  sqlite3_stmt* select_ = nullptr;
  sqlite3_stmt* scan_ = nullptr;
};

}  // namespace

std::optional<MapPeerKind> sqlite_map() {
  return MapPeerKind{.name = "sqlite",
                     .what = "a table by key, in WAL mode; a batch is one transaction",
                     .open = open_map_as<SqliteMap>};
}
#else
std::optional<MapPeerKind> sqlite_map() { return std::nullopt; }
#endif

}  // namespace nori::bench
