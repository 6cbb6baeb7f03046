// The raw limits: system calls that do what a log has to do at least.

#include <fcntl.h>

#include "bench/files.h"
#include "bench/peers/peer.h"
#include "format/frame.h"
#include "nori/options.h"

namespace nori::bench {
namespace {

class PwritePeer : public Peer {
 public:
  explicit PwritePeer(const std::filesystem::path& directory)
      : file_(directory / "log", O_RDWR | O_CREAT) {
    file_.allocate(kFileBytes);
    // Else the blocks' allocation is still to be written when the clock runs.
    file_.sync_data();
  }

  bool append(const BenchRecord& record) override { return write(record.framed); }

  bool append_batch(std::span<const BenchRecord> records) override {
    for (const BenchRecord& record : records) {
      if (!write(record.framed)) {
        return false;
      }
    }
    return true;
  }

  void sync() override { file_.sync_data(); }

 protected:
  bool write(std::string_view bytes) {
    if (offset_ + bytes.size() > kFileBytes) {
      return false;
    }
    file_.write_at(bytes, offset_);
    offset_ += bytes.size();
    return true;
  }

 private:
  static constexpr std::uint64_t kFileBytes = 2 * kGiB;

  File file_;
  std::uint64_t offset_ = 0;
};

class PwriteBatchPeer final : public PwritePeer {
 public:
  using PwritePeer::PwritePeer;

  bool append_batch(std::span<const BenchRecord> records) override {
    // One frame around all of them instead of one around each. Their bytes lie in a row.
    const std::string_view first = records.front().framed;
    const std::size_t bytes_each = first.size() - kFrameHeaderBytes;
    return write({first.data(), kFrameHeaderBytes + records.size() * bytes_each});
  }
};

class Direct4kPeer final : public Peer {
 public:
  explicit Direct4kPeer(const std::filesystem::path& directory)
      : file_(directory / "log", O_RDWR | O_CREAT | O_DIRECT), block_(kBlockBytes) {
    const AlignedBytes piece(kMiB);
    for (std::uint64_t offset = 0; offset < kFileBytes; offset += kMiB) {
      file_.write_at(piece.view(), offset);
    }
    sync();
  }

  bool append(const BenchRecord& /*record*/) override {
    file_.write_durable_at(block_.view(), offset_);
    offset_ = (offset_ + kBlockBytes) % kFileBytes;
    return true;
  }

  bool append_batch(std::span<const BenchRecord> records) override {
    return append(records.front());
  }

  void sync() override { file_.sync_data(); }

 private:
  static constexpr std::uint64_t kFileBytes = 64 * kMiB;
  static constexpr std::size_t kBlockBytes = 4096;

  File file_;
  AlignedBytes block_;
  std::uint64_t offset_ = 0;
};

template <typename P>
std::unique_ptr<Peer> open_peer(const std::filesystem::path& directory, Survives /*survives*/) {
  return std::make_unique<P>(directory);
}

}  // namespace

PeerKind pwrite_peer() {
  return {.name = "pwrite",
          .what = "a pwrite per record, of the bytes nori writes, into a preallocated file",
          .open = open_peer<PwritePeer>};
}

PeerKind pwrite_batch_peer() {
  return {.name = "pwrite-batch",
          .what = "a pwrite per batch, of the bytes nori writes, into a preallocated file",
          .open = open_peer<PwriteBatchPeer>};
}

PeerKind direct_4k_peer() {
  return {.name = "direct-4k",
          .what = "a direct write of 4 KiB with RWF_DSYNC into blocks written before",
          .open = open_peer<Direct4kPeer>};
}

}  // namespace nori::bench
