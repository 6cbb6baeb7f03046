// LevelDB, through its public interface: its log writer alone is not exported, so a write goes to
// its log and into its memory table.

#include "bench/peers/peer.h"

#ifdef NORI_HAVE_LEVELDB
#include <leveldb/db.h>
#include <leveldb/write_batch.h>

#include <stdexcept>

#include "nori/options.h"
#endif

namespace nori::bench {

#ifdef NORI_HAVE_LEVELDB
namespace {

class LeveldbPeer final : public Peer {
 public:
  LeveldbPeer(const std::filesystem::path& directory, Survives survives) {
    leveldb::Options options;
    options.create_if_missing = true;
    // Its largest: no memory table is written out while the clock runs.
    options.write_buffer_size = kGiB;
    options.compression = leveldb::kNoCompression;
    leveldb::DB* db = nullptr;
    check(leveldb::DB::Open(options, directory.string(), &db));
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
      batch_.Put(slice(record.key), slice(record.value));
    }
    check(db_->Write(write_options_, &batch_));
    return true;
  }

  void sync() override {
    leveldb::WriteOptions durable;
    durable.sync = true;
    check(db_->Put(durable, "sync", ""));
  }

 private:
  static leveldb::Slice slice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }
  static void check(const leveldb::Status& status) {
    if (!status.ok()) {
      throw std::runtime_error("leveldb: " + status.ToString());
    }
  }

  std::unique_ptr<leveldb::DB> db_;
  leveldb::WriteOptions write_options_;
  leveldb::WriteBatch batch_;
};

}  // namespace

std::optional<PeerKind> leveldb_peer() {
  return PeerKind{
      .name = "leveldb",
      .what =
          "DB::Put and Write: into its log (whose writer alone is not exported) and its memory "
          "table, which is not written out meanwhile",
      .open = open_peer_as<LeveldbPeer>};
}
#else
std::optional<PeerKind> leveldb_peer() { return std::nullopt; }
#endif

}  // namespace nori::bench
