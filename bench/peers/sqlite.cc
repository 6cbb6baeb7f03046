// SQLite, through its public interface: a table of records in the order in which they came, in WAL
// mode. synchronous = OFF leaves writes to the page cache, FULL syncs its log at each commit.

#include "bench/peers/peer.h"

#ifdef NORI_HAVE_SQLITE3
#include <sqlite3.h>

#include <mutex>
#include <stdexcept>
#endif

namespace nori::bench {

#ifdef NORI_HAVE_SQLITE3
namespace {

class SqlitePeer final : public Peer {
 public:
  SqlitePeer(const std::filesystem::path& directory, Survives survives) {
    check(sqlite3_open((directory / "log.db").c_str(), &db_));
    run("PRAGMA journal_mode = WAL");
    run(survives == Survives::machine ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = OFF");
    run("CREATE TABLE log (id INTEGER PRIMARY KEY, key BLOB, value BLOB)");
    check(sqlite3_prepare_v2(db_, "INSERT INTO log (key, value) VALUES (?, ?)", -1, &insert_,
                             nullptr));
  }
  ~SqlitePeer() override {
    sqlite3_finalize(insert_);
    sqlite3_close(db_);
  }

  bool append(const BenchRecord& record) override {
    const std::lock_guard lock(mutex_);
    insert(record);
    return true;
  }

  bool append_batch(std::span<const BenchRecord> records) override {
    const std::lock_guard lock(mutex_);
    run("BEGIN");
    for (const BenchRecord& record : records) {
      insert(record);
    }
    run("COMMIT");
    return true;
  }

  void sync() override {
    const std::lock_guard lock(mutex_);
    run("PRAGMA synchronous = FULL");
    insert({.key = "sync", .value = "", .framed = ""});
  }

 private:
  void insert(const BenchRecord& record) {
    check(sqlite3_bind_blob(insert_, 1, record.key.data(), static_cast<int>(record.key.size()),
                            SQLITE_STATIC));
    check(sqlite3_bind_blob(insert_, 2, record.value.data(), static_cast<int>(record.value.size()),
                            SQLITE_STATIC));
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
};

}  // namespace

std::optional<PeerKind> sqlite_peer() {
  return PeerKind{.name = "sqlite",
                  .what = "an INSERT each, in WAL mode; a batch is one transaction",
                  .open = open_peer_as<SqlitePeer>};
}
#else
std::optional<PeerKind> sqlite_peer() { return std::nullopt; }
#endif

}  // namespace nori::bench
