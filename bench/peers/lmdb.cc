// LMDB, through its public interface: numbered records, appended at the tree's end (MDB_APPEND).
// MDB_NOSYNC leaves writes to the page cache; without it each commit syncs.

#include "bench/peers/peer.h"

#ifdef NORI_HAVE_LMDB
#include <lmdb.h>

#include <mutex>
#include <stdexcept>
#endif

namespace nori::bench {

#ifdef NORI_HAVE_LMDB
namespace {

class LmdbPeer final : public Peer {
 public:
  LmdbPeer(const std::filesystem::path& directory, Survives survives) {
    constexpr std::size_t kMapBytes = std::size_t{16} << 30;
    check(mdb_env_create(&environment_));
    check(mdb_env_set_mapsize(environment_, kMapBytes));
    const unsigned flags = survives == Survives::machine ? 0 : MDB_NOSYNC;
    check(mdb_env_open(environment_, directory.c_str(), flags, 0600));
    MDB_txn* transaction = begin();
    check(mdb_dbi_open(transaction, nullptr, MDB_INTEGERKEY, &table_));
    check(mdb_txn_commit(transaction));
  }
  ~LmdbPeer() override { mdb_env_close(environment_); }

  bool append(const BenchRecord& record) override { return append_batch({&record, 1}); }

  bool append_batch(std::span<const BenchRecord> records) override {
    const std::lock_guard lock(mutex_);
    MDB_txn* transaction = begin();
    for (const BenchRecord& record : records) {
      MDB_val number{.mv_size = sizeof(next_), .mv_data = &next_};
      MDB_val room{.mv_size = record.key.size() + record.value.size(), .mv_data = nullptr};
      check(mdb_put(transaction, table_, &number, &room, MDB_APPEND | MDB_RESERVE));
      auto* const to = static_cast<char*>(room.mv_data);
      record.key.copy(to, record.key.size());
      record.value.copy(to + record.key.size(), record.value.size());
      ++next_;
    }
    check(mdb_txn_commit(transaction));
    return true;
  }

  void sync() override { check(mdb_env_sync(environment_, 1)); }

 private:
  MDB_txn* begin() {
    MDB_txn* transaction = nullptr;
    check(mdb_txn_begin(environment_, nullptr, 0, &transaction));
    return transaction;
  }
  static void check(int code) {
    if (code != 0) {
      throw std::runtime_error(std::string("lmdb: ") + mdb_strerror(code));
    }
  }

  std::mutex mutex_;  // of the numbers; its own is taken inside
  std::size_t next_ = 0;
  MDB_env* environment_ = nullptr;
  MDB_dbi table_ = 0;
};

}  // namespace

std::optional<PeerKind> lmdb_peer() {
  return PeerKind{.name = "lmdb",
                  .what = "a put and a commit each, under rising numbers; a batch is one commit",
                  .open = open_peer_as<LmdbPeer>};
}
#else
std::optional<PeerKind> lmdb_peer() { return std::nullopt; }
#endif

}  // namespace nori::bench
