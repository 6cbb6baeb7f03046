// Ordered maps that survive: this store, and the stores of others. All of them are called in the
// same way, so that the call costs all of them the same.

#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/peers/peer.h"

namespace nori::bench {

struct KeyValue {
  std::string_view key;
  std::string_view value;
};

/// Errors are thrown. Threads: put() from any; the rest from one at a time.
class MapPeer {
 public:
  MapPeer() = default;
  MapPeer(const MapPeer&) = delete;
  MapPeer& operator=(const MapPeer&) = delete;
  virtual ~MapPeer() = default;

  virtual void put(const KeyValue& pair) = 0;
  /// As one atomic unit.
  virtual void put_batch(std::span<const KeyValue> pairs) = 0;
  /// The size of the value, whose bytes were there to be read; nothing if the key is absent.
  virtual std::optional<std::size_t> get(std::string_view key) = 0;
  /// All entries in the order of their keys; the sum of the sizes of keys and values.
  virtual std::uint64_t scan() = 0;
  /// Does now what it would do at leisure, so that reading finds its best case.
  virtual void settle() {}
};

struct MapPeerKind {
  std::string name;
  std::string what;
  bool ours = false;
  std::function<std::unique_ptr<MapPeer>(const std::filesystem::path& directory, Survives survives)>
      open;
};

template <typename MadePeer>
[[nodiscard]] std::unique_ptr<MapPeer> open_map_as(const std::filesystem::path& directory,
                                                   Survives survives) {
  return std::make_unique<MadePeer>(directory, survives);
}

/// This store: policy `os` for Survives::process, `always` for Survives::machine.
[[nodiscard]] MapPeerKind nori_map();

// Nothing if they were not there when this was built.
[[nodiscard]] std::optional<MapPeerKind> rocksdb_map();
[[nodiscard]] std::optional<MapPeerKind> leveldb_map();
[[nodiscard]] std::optional<MapPeerKind> lmdb_map();
[[nodiscard]] std::optional<MapPeerKind> sqlite_map();

/// Those that are there.
[[nodiscard]] inline std::vector<MapPeerKind> maps() {
  std::vector<MapPeerKind> found;
  for (auto& peer : {rocksdb_map(), leveldb_map(), lmdb_map(), sqlite_map()}) {
    if (peer) {
      found.push_back(*peer);
    }
  }
  return found;
}

}  // namespace nori::bench
