#include "bench/expect.h"
#include "bench/peers/map_peer.h"
#include "nori/store.h"

namespace nori::bench {
namespace {

class NoriMap final : public MapPeer {
 public:
  NoriMap(const std::filesystem::path& directory, Survives survives)
      : store_(expect(Store::open(options_for(directory, survives))).store) {}

  void put(const KeyValue& pair) override { expect(store_.put(pair.key, pair.value)); }

  void put_batch(std::span<const KeyValue> pairs) override {
    batch_.clear();
    for (const auto& pair : pairs) {
      batch_.put(pair.key, pair.value);
    }
    expect(store_.write(batch_));
  }

  std::optional<std::size_t> get(std::string_view key) override {
    const auto found = expect(store_.get(key));
    return found ? std::optional(found->value().size()) : std::nullopt;
  }

  std::uint64_t scan() override {
    std::uint64_t bytes = 0;
    auto entries = expect(store_.scan());
    while (const auto entry = entries.next()) {
      bytes += entry->key.size() + entry->value.size();
    }
    return bytes;
  }

 private:
  static StoreOptions options_for(const std::filesystem::path& directory, Survives survives) {
    StoreOptions options;
    options.wal.directory = directory;
    options.wal.fsync = survives == Survives::machine ? FsyncPolicy::always() : FsyncPolicy::os();
    return options;
  }

  Store store_;
  Batch batch_;
};

}  // namespace

MapPeerKind nori_map() {
  return {.name = "nori",
          .what = "Store::put, write, get and scan",
          .ours = true,
          .open = open_map_as<NoriMap>};
}

}  // namespace nori::bench
