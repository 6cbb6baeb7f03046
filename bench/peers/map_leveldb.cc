// LevelDB, through its public interface, in the same way as RocksDB.

#include "bench/peers/map_peer.h"

#ifdef NORI_HAVE_LEVELDB
#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/write_batch.h>

#include <stdexcept>

#include "nori/options.h"
#endif

namespace nori::bench {

#ifdef NORI_HAVE_LEVELDB
namespace {

class LeveldbMap final : public MapPeer {
 public:
  LeveldbMap(const std::filesystem::path& directory, Survives survives)
      : cache_(leveldb::NewLRUCache(4 * kGiB)), filter_(leveldb::NewBloomFilterPolicy(10)) {
    leveldb::Options options;
    options.create_if_missing = true;
    options.write_buffer_size = kGiB;
    options.compression = leveldb::kNoCompression;
    options.block_cache = cache_.get();
    options.filter_policy = filter_.get();
    leveldb::DB* db = nullptr;
    check(leveldb::DB::Open(options, directory.string(), &db));
    db_.reset(db);
    write_options_.sync = survives == Survives::machine;
  }

  void put(const KeyValue& pair) override {
    check(db_->Put(write_options_, slice(pair.key), slice(pair.value)));
  }

  void put_batch(std::span<const KeyValue> pairs) override {
    batch_.Clear();
    for (const auto& pair : pairs) {
      batch_.Put(slice(pair.key), slice(pair.value));
    }
    check(db_->Write(write_options_, &batch_));
  }

  std::optional<std::size_t> get(std::string_view key) override {
    const auto status = db_->Get(leveldb::ReadOptions(), slice(key), &value_);
    if (status.IsNotFound()) {
      return std::nullopt;
    }
    check(status);
    return value_.size();
  }

  std::uint64_t scan() override {
    std::uint64_t bytes = 0;
    const std::unique_ptr<leveldb::Iterator> it(db_->NewIterator(leveldb::ReadOptions()));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
      bytes += it->key().size() + it->value().size();
    }
    check(it->status());
    return bytes;
  }

  void settle() override { db_->CompactRange(nullptr, nullptr); }

 private:
  static leveldb::Slice slice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }
  static void check(const leveldb::Status& status) {
    if (!status.ok()) {
      throw std::runtime_error("leveldb: " + status.ToString());
    }
  }

  std::unique_ptr<leveldb::Cache> cache_;
  std::unique_ptr<const leveldb::FilterPolicy> filter_;
  std::unique_ptr<leveldb::DB> db_;
  leveldb::WriteOptions write_options_;
  leveldb::WriteBatch batch_;
  std::string value_;
};

}  // namespace

std::optional<MapPeerKind> leveldb_map() {
  return MapPeerKind{.name = "leveldb",
                     .what = "Put, Write, Get, an iterator; compacted before it is read",
                     .open = open_map_as<LeveldbMap>};
}
#else
std::optional<MapPeerKind> leveldb_map() { return std::nullopt; }
#endif

}  // namespace nori::bench
