// LMDB, through its public interface. MDB_NOSYNC leaves writes to the page cache; without it each
// commit syncs. A get reads in a transaction that is renewed each time, as one who wants to see the
// newest has to.

#include "bench/peers/map_peer.h"

#ifdef NORI_HAVE_LMDB
#include <lmdb.h>

#include <mutex>
#include <stdexcept>
#endif

namespace nori::bench {

#ifdef NORI_HAVE_LMDB
namespace {

class LmdbMap final : public MapPeer {
 public:
  LmdbMap(const std::filesystem::path& directory, Survives survives) {
    constexpr std::size_t kMapBytes = std::size_t{64} << 30;
    check(mdb_env_create(&environment_));
    check(mdb_env_set_mapsize(environment_, kMapBytes));
    const unsigned flags = survives == Survives::machine ? 0 : MDB_NOSYNC;
    check(mdb_env_open(environment_, directory.c_str(), flags | MDB_NOTLS, 0600));
    MDB_txn* transaction = begin(0);
    check(mdb_dbi_open(transaction, nullptr, 0, &table_));
    check(mdb_txn_commit(transaction));
    reading_ = begin(MDB_RDONLY);
    mdb_txn_reset(reading_);
  }
  ~LmdbMap() override {
    mdb_txn_abort(reading_);
    mdb_env_close(environment_);
  }

  void put(const KeyValue& pair) override { put_batch({&pair, 1}); }

  void put_batch(std::span<const KeyValue> pairs) override {
    MDB_txn* transaction = begin(0);
    for (const auto& pair : pairs) {
      auto key = value_of(pair.key);
      auto value = value_of(pair.value);
      check(mdb_put(transaction, table_, &key, &value, 0));
    }
    check(mdb_txn_commit(transaction));
  }

  std::optional<std::size_t> get(std::string_view key) override {
    check(mdb_txn_renew(reading_));
    auto wanted = value_of(key);
    MDB_val value{};
    const int code = mdb_get(reading_, table_, &wanted, &value);
    mdb_txn_reset(reading_);
    if (code == MDB_NOTFOUND) {
      return std::nullopt;
    }
    check(code);
    return value.mv_size;
  }

  std::uint64_t scan() override {
    std::uint64_t bytes = 0;
    check(mdb_txn_renew(reading_));
    MDB_cursor* cursor = nullptr;
    check(mdb_cursor_open(reading_, table_, &cursor));
    MDB_val key{};
    MDB_val value{};
    for (int code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); code == 0;
         code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
      bytes += key.mv_size + value.mv_size;
    }
    mdb_cursor_close(cursor);
    mdb_txn_reset(reading_);
    return bytes;
  }

 private:
  static MDB_val value_of(std::string_view bytes) {
    return {.mv_size = bytes.size(), .mv_data = const_cast<char*>(bytes.data())};
  }
  MDB_txn* begin(unsigned flags) {
    MDB_txn* transaction = nullptr;
    check(mdb_txn_begin(environment_, nullptr, flags, &transaction));
    return transaction;
  }
  static void check(int code) {
    if (code != 0) {
      throw std::runtime_error(std::string("lmdb: ") + mdb_strerror(code));
    }
  }

  MDB_env* environment_ = nullptr;
  MDB_dbi table_ = 0;
  MDB_txn* reading_ = nullptr;
};

}  // namespace

std::optional<MapPeerKind> lmdb_map() {
  return MapPeerKind{.name = "lmdb",
                     .what =
                         "a put and a commit each; a batch is one commit; a get in a renewed "
                         "transaction; a cursor",
                     .open = open_map_as<LmdbMap>};
}
#else
std::optional<MapPeerKind> lmdb_map() { return std::nullopt; }
#endif

}  // namespace nori::bench
