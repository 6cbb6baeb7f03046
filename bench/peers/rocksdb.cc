// RocksDB, through its public interface: a write goes to its log and into its memory table.

#include "bench/peers/peer.h"

#ifdef NORI_HAVE_ROCKSDB
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <stdexcept>

#include "nori/options.h"
#endif

namespace nori::bench {

#ifdef NORI_HAVE_ROCKSDB
namespace {

class RocksdbPeer final : public Peer {
 public:
  RocksdbPeer(const std::filesystem::path& directory, Survives survives) {
    rocksdb::Options options;
    options.create_if_missing = true;
    // No memory table is written out while the clock runs, nor at the end.
    options.write_buffer_size = 2 * kGiB;
    options.avoid_flush_during_shutdown = true;
    options.compression = rocksdb::kNoCompression;
    rocksdb::DB* db = nullptr;
    check(rocksdb::DB::Open(options, directory.string(), &db));
    db_.reset(db);
    write_options_.sync = survives == Survives::machine;
  }

  bool append(const BenchRecord& record) override {
    check(db_->Put(write_options_, slice(record.key), slice(record.value)));
    return true;
  }

  bool append_batch(std::span<const BenchRecord> records) override {
    batch_.Clear();
    for (const BenchRecord& record : records) {
      check(batch_.Put(slice(record.key), slice(record.value)));
    }
    check(db_->Write(write_options_, &batch_));
    return true;
  }

  void sync() override { check(db_->SyncWAL()); }

 private:
  static rocksdb::Slice slice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }
  static void check(const rocksdb::Status& status) {
    if (!status.ok()) {
      throw std::runtime_error("rocksdb: " + status.ToString());
    }
  }

  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteOptions write_options_;
  rocksdb::WriteBatch batch_;
};

}  // namespace

std::optional<PeerKind> rocksdb_peer() {
  return PeerKind{
      .name = "rocksdb",
      .what =
          "DB::Put and Write: into its log and its memory table, which is not written out "
          "meanwhile",
      .open = open_peer_as<RocksdbPeer>};
}
#else
std::optional<PeerKind> rocksdb_peer() { return std::nullopt; }
#endif

}  // namespace nori::bench
