// RocksDB, through its public interface. Its memory table is large enough not to be written out
// while it is loaded; before it is read, it is, and compacted, with a filter of ten bits a key and
// a cache that holds everything.

#include "bench/peers/map_peer.h"

#ifdef NORI_HAVE_ROCKSDB
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <stdexcept>

#include "nori/options.h"
#endif

namespace nori::bench {

#ifdef NORI_HAVE_ROCKSDB
namespace {

class RocksdbMap final : public MapPeer {
 public:
  RocksdbMap(const std::filesystem::path& directory, Survives survives) {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.write_buffer_size = 4 * kGiB;
    options.avoid_flush_during_shutdown = true;
    options.compression = rocksdb::kNoCompression;
    rocksdb::BlockBasedTableOptions table;
    table.block_cache = rocksdb::NewLRUCache(4 * kGiB);
    table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
    options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
    rocksdb::DB* db = nullptr;
    check(rocksdb::DB::Open(options, directory.string(), &db));
    db_.reset(db);
    write_options_.sync = survives == Survives::machine;
  }

  void put(const KeyValue& pair) override {
    check(db_->Put(write_options_, slice(pair.key), slice(pair.value)));
  }

  void put_batch(std::span<const KeyValue> pairs) override {
    batch_.Clear();
    for (const auto& pair : pairs) {
      check(batch_.Put(slice(pair.key), slice(pair.value)));
    }
    check(db_->Write(write_options_, &batch_));
  }

  std::optional<std::size_t> get(std::string_view key) override {
    const auto status =
        db_->Get(rocksdb::ReadOptions(), db_->DefaultColumnFamily(), slice(key), &value_);
    if (status.IsNotFound()) {
      return std::nullopt;
    }
    check(status);
    const auto bytes = value_.size();
    value_.Reset();
    return bytes;
  }

  std::uint64_t scan() override {
    std::uint64_t bytes = 0;
    const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(rocksdb::ReadOptions()));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
      bytes += it->key().size() + it->value().size();
    }
    check(it->status());
    return bytes;
  }

  void settle() override {
    check(db_->Flush(rocksdb::FlushOptions()));
    check(db_->CompactRange(rocksdb::CompactRangeOptions(), nullptr, nullptr));
  }

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
  rocksdb::PinnableSlice value_;
};

}  // namespace

std::optional<MapPeerKind> rocksdb_map() {
  return MapPeerKind{.name = "rocksdb",
                     .what =
                         "Put, Write, Get into a PinnableSlice, an iterator; compacted, filter "
                         "and cache before it is read",
                     .open = open_map_as<RocksdbMap>};
}
#else
std::optional<MapPeerKind> rocksdb_map() { return std::nullopt; }
#endif

}  // namespace nori::bench
