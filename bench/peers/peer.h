// What records are appended to: this log, the logs of others, and the raw limits. All of them are
// called in the same way, so that the call costs all of them the same.

#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bench/measurement.h"
#include "bench/workload.h"
#include "nori/options.h"

namespace nori::bench {

/// What an append that has returned survives.
enum class Survives : std::uint8_t {
  process,  ///< The process being killed.
  machine,  ///< The machine losing power.
};

/// Errors are thrown. Threads: append() of nori and the stores from any; the rest from one at a
/// time.
class Peer {
 public:
  Peer() = default;
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  virtual ~Peer() = default;

  /// False if there is no room left; nothing was appended then.
  virtual bool append(const BenchRecord& record) = 0;
  /// The records as one atomic unit, where the peer has such a thing.
  virtual bool append_batch(std::span<const BenchRecord> records) = 0;
  /// Everything appended so far survives the machine.
  virtual void sync() = 0;
  /// Adds what only this peer can say of itself. Called behind the timed part; may append.
  virtual void describe(const BenchRecord& /*record*/, Measurement& /*measured*/) {}
};

struct PeerKind {
  std::string name;
  std::string what;
  /// This log, rather than something it is compared with.
  bool ours = false;
  std::function<std::unique_ptr<Peer>(const std::filesystem::path& directory, Survives survives)>
      open;
};

/// PeerKind::open for a peer that is made from these two.
template <typename MadePeer>
[[nodiscard]] std::unique_ptr<Peer> open_peer_as(const std::filesystem::path& directory,
                                                 Survives survives) {
  return std::make_unique<MadePeer>(directory, survives);
}

/// This log: policy `os` for Survives::process, `always` for Survives::machine.
[[nodiscard]] PeerKind nori_peer(IoMode io = IoMode::automatic);

/// A pwrite for each record, of as many bytes as nori writes, into a preallocated file.
[[nodiscard]] PeerKind pwrite_peer();
/// The same with one pwrite for a batch.
[[nodiscard]] PeerKind pwrite_batch_peer();

/// For each record a direct write of 4 KiB with RWF_DSYNC into blocks written before.
[[nodiscard]] PeerKind direct_4k_peer();

// Nothing if they were not there when this was built.
[[nodiscard]] std::optional<PeerKind> leveldb_peer();
[[nodiscard]] std::optional<PeerKind> rocksdb_peer();
[[nodiscard]] std::optional<PeerKind> sqlite_peer();
[[nodiscard]] std::optional<PeerKind> lmdb_peer();

/// Those that are there.
[[nodiscard]] inline std::vector<PeerKind> stores() {
  std::vector<PeerKind> found;
  for (auto& peer : {leveldb_peer(), rocksdb_peer(), sqlite_peer(), lmdb_peer()}) {
    if (peer) {
      found.push_back(*peer);
    }
  }
  return found;
}

}  // namespace nori::bench
