#include <fmt/format.h>

#include "bench/expect.h"
#include "bench/peers/peer.h"
#include "nori/wal.h"

namespace nori::bench {
namespace {

WalOptions options_for(const std::filesystem::path& directory, Survives survives, IoMode io) {
  WalOptions options;
  options.directory = directory;
  options.fsync = survives == Survives::machine ? FsyncPolicy::always() : FsyncPolicy::os();
  options.io = io;
  return options;
}

class NoriPeer final : public Peer {
 public:
  NoriPeer(const std::filesystem::path& directory, Survives survives, IoMode io)
      : wal_(expect(Wal::open(options_for(directory, survives, io))).wal) {}

  bool append(const BenchRecord& record) override {
    expect(wal_.append(Record::put(record.key, record.value)));
    return true;
  }

  bool append_batch(std::span<const BenchRecord> records) override {
    batch_.clear();
    for (const BenchRecord& record : records) {
      batch_.put(record.key, record.value);
    }
    expect(wal_.append(batch_));
    return true;
  }

  void sync() override { expect(wal_.sync()); }

  void describe(const BenchRecord& record, Measurement& measured) override {
    // How far apart two lone records begin, unless a segment ends between them.
    Appended before = expect(wal_.append(Record::put(record.key, record.value)));
    Appended behind = expect(wal_.append(Record::put(record.key, record.value)));
    if (before.position.segment_id != behind.position.segment_id) {
      before = behind;
      behind = expect(wal_.append(Record::put(record.key, record.value)));
    }
    const std::uint64_t bytes = behind.position.offset - before.position.offset;
    measured.values["overhead_bytes"] =
        static_cast<double>(bytes) - static_cast<double>(record.key.size() + record.value.size());

    const WalStats stats = wal_.stats();
    measured.note =
        fmt::format("{} I/O; newest bytes in: {}",
                    stats.io == IoMode::direct ? "direct" : "buffered", stats.ring_reason);
  }

 private:
  Wal wal_;
  Batch batch_;
};

}  // namespace

PeerKind nori_peer(IoMode io) {
  return {.name = io == IoMode::buffered ? "nori-buffered" : "nori",
          .what = "Wal::append",
          .ours = true,
          .open = [io](const std::filesystem::path& directory, Survives survives) {
            return std::unique_ptr<Peer>(std::make_unique<NoriPeer>(directory, survives, io));
          }};
}

}  // namespace nori::bench
