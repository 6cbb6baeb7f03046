// The directory of a log that the library has written, altered.
//
//   input   1  which log of base_logs(); bit 6: opening it for writing reads all of it; bit 7:
//              checksums are made to match
//           1  0: nothing more; else power is cut first, and what of the unsynced state survives
//              is drawn from this seed
//           .. alterations: an operation, then what it needs
//
// With checksums as they come out, alterations are those of a bad disk: bits flip, whole sectors
// are lost, stand elsewhere or go back to what they were, files are cut, swapped, removed. Only
// what was written may be read then. With checksums that match, anything may be written anywhere.

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <set>
#include <string>

#include "base/little_endian.h"
#include "fuzz/base_logs.h"
#include "fuzz/input.h"
#include "fuzz/log_check.h"
#include "fuzz/require.h"
#include "fuzz/signing.h"
#include "segment/segment_name.h"

namespace nori::fuzz {
namespace {

constexpr std::uint64_t kSectorBytes = 512;
constexpr std::uint64_t kFileBytesMax = 512 * 1024;
constexpr int kAlterationsMax = 12;
// So few flipped bits are never another valid checksum.
constexpr int kFlipsMax = 3;

class Alteration {
 public:
  Alteration(const BaseLog& log, Files files, bool is_forged, Input& input)
      : log_(log), files_(std::move(files)), is_forged_(is_forged), input_(input) {}

  void run() {
    for (int i = 0; i < kAlterationsMax && !input_.empty() && !files_.empty(); ++i) {
      alter();
    }
    if (is_forged_) {
      sign();
    }
  }

  // The disk's directory becomes it.
  void store(testing::SimulatedDisk& disk) const {
    for (const auto& name : touched_) {
      const auto path = "log/" + name;
      const auto file = files_.find(name);
      const auto stored =
          file == files_.end() ? disk.remove_file(path) : disk.write_file(path, file->second);
      // A file may have come and gone.
      require(stored || file == files_.end(), "a file that cannot be stored");
    }
  }

 private:
  struct Place {
    std::string name;
    std::vector<std::byte>* file = nullptr;
    std::uint64_t offset = 0;  ///< Within the file, or at its end.
    [[nodiscard]] ByteSpan bytes() const { return ByteSpan(*file).subspan(offset); }
  };

  Files::iterator take_file() {
    return std::next(files_.begin(), static_cast<std::ptrdiff_t>(input_.below(files_.size())));
  }

  // Behind something that begins in the log as it was, or anywhere.
  Place take_place() {
    const auto how = input_.take<std::uint8_t>();
    if (how % 4 != 0) {
      const auto& landmark = log_.landmarks[input_.below(log_.landmarks.size())];
      if (const auto file = files_.find(landmark.file); file != files_.end()) {
        return at(file, landmark.offset + how / 4);
      }
    }
    const auto file = take_file();
    return at(file, input_.below(file->second.size()));
  }

  static Place at(Files::iterator file, std::uint64_t offset) {
    return {.name = file->first,
            .file = &file->second,
            .offset = std::min<std::uint64_t>(offset, file->second.size())};
  }

  void alter() {
    constexpr unsigned kHonest = 9;
    constexpr unsigned kForged = 12;
    switch (input_.take<std::uint8_t>() % (is_forged_ ? kForged : kHonest)) {
      case 0:
        return flip_bit();
      case 1:
        return zero();
      case 2:
        return copy_sectors();
      case 3:
        return resize();
      case 4:
        return remove();
      case 5:
        return swap();
      case 6:
        return copy_file();
      case 7:
        return go_back();
      case 8:
        return go_back_in_sectors();
      case 9:
        return write();
      case 10:
        return add();
      default:
        return copy_bytes();
    }
  }

  void flip_bit() {
    const auto place = take_place();
    const auto bit = input_.take<std::uint8_t>() % 8;
    if (!place.bytes().empty() && ++flips_ <= kFlipsMax) {
      place.bytes().front() ^= static_cast<std::byte>(1U << bit);
      touched_.insert(place.name);
    }
  }

  void zero() {
    const auto place = take_place();
    const auto bytes = place.bytes();
    std::ranges::fill(
        bytes.first(std::min<std::size_t>(bytes.size(), input_.take<std::uint16_t>())),
        std::byte{0});
    touched_.insert(place.name);
  }

  void copy_sectors() {
    auto from = take_place();
    auto to = take_place();
    from.offset = round_down(from.offset, kSectorBytes);
    to.offset = round_down(to.offset, kSectorBytes);
    copy(from, to, kSectorBytes * (1 + input_.take<std::uint8_t>() % 16));
  }

  void copy_bytes() {
    const auto from = take_place();
    const auto to = take_place();
    copy(from, to, input_.take<std::uint16_t>());
  }

  void copy(const Place& from, const Place& to, std::size_t count) {
    const auto source = from.bytes().first(std::min(count, from.bytes().size()));
    const std::vector<std::byte> copied(source.begin(), source.end());
    const auto target = to.bytes();
    std::copy_n(copied.begin(), std::min(copied.size(), target.size()), target.begin());
    touched_.insert(to.name);
  }

  void resize() {
    const auto place = take_place();
    const auto grow = input_.take<std::uint8_t>();
    auto& file = *place.file;
    file.resize(grow < 128 ? place.offset
                           : std::min<std::uint64_t>(file.size() + (grow - 127U) * kSectorBytes,
                                                     kFileBytesMax));
    touched_.insert(place.name);
  }

  void remove() {
    const auto file = take_file();
    touched_.insert(file->first);
    files_.erase(file);
  }

  void swap() {
    const auto one = take_file();
    const auto other = take_file();
    one->second.swap(other->second);
    touched_.insert({one->first, other->first});
  }

  // Under a name that is there, is not there yet, or is no log's.
  void copy_file() {
    const auto bytes = take_file()->second;
    const auto id = input_.take<std::uint8_t>();
    const std::string name = id < 0xf0   ? segment_name(id % 16)
                             : id < 0xf4 ? std::string(kRingName)
                             : id < 0xf8 ? std::string(kNextSegmentName)
                             : id < 0xfc ? "other.wal"
                                         : "other";
    files_[name] = bytes;
    touched_.insert(name);
  }

  const Files* take_earlier() {
    return log_.earlier.empty() ? nullptr : &log_.earlier[input_.below(log_.earlier.size())];
  }

  void go_back() {
    const auto* const earlier = take_earlier();
    if (earlier == nullptr || earlier->empty()) {
      return;
    }
    const auto file =
        std::next(earlier->begin(), static_cast<std::ptrdiff_t>(input_.below(earlier->size())));
    files_[file->first] = file->second;
    touched_.insert(file->first);
  }

  void go_back_in_sectors() {
    const auto* const earlier = take_earlier();
    const auto place = take_place();
    const auto from = round_down(place.offset, kSectorBytes);
    const auto count = kSectorBytes * (1 + input_.take<std::uint8_t>() % 16);
    const auto file = earlier == nullptr ? files_.end() : earlier->find(place.name);
    if (earlier == nullptr || file == earlier->end() || from >= file->second.size()) {
      return;
    }
    const auto source = ByteView(file->second).subspan(from);
    const auto target = ByteSpan(*place.file).subspan(from);
    std::copy_n(source.begin(), std::min({source.size(), target.size(), std::size_t{count}}),
                target.begin());
    touched_.insert(place.name);
  }

  void write() {
    const auto place = take_place();
    const auto bytes = input_.take_bytes(1 + input_.take<std::uint8_t>() % 16);
    const auto target = place.bytes();
    std::copy_n(bytes.begin(), std::min(bytes.size(), target.size()), target.begin());
    touched_.insert(place.name);
  }

  // To an integer, as fields are.
  void add() {
    const auto place = take_place();
    const auto change = static_cast<std::uint64_t>(std::int64_t{input_.take<std::int8_t>()})
                        << (input_.take<std::uint8_t>() % 64);
    if (place.bytes().size() >= sizeof(change)) {
      auto* const integer = place.bytes().data();
      store_le(integer, load_le<std::uint64_t>(integer) + change);
      touched_.insert(place.name);
    }
  }

  void sign() {
    for (const auto& name : touched_) {
      const auto file = files_.find(name);
      if (file == files_.end()) {
        continue;
      }
      if (name != kRingName) {
        sign_segment(file->second);
        continue;
      }
      const ByteSpan ring(file->second);
      sign_ring(ring);
      for (const auto& landmark : log_.landmarks) {
        if (landmark.is_frame && landmark.file == name && landmark.offset < ring.size()) {
          sign_frame(ring.subspan(landmark.offset), landmark.place_seed);
        }
      }
    }
  }

  const BaseLog& log_;
  Files files_;
  bool is_forged_;
  Input& input_;
  std::set<std::string> touched_;
  int flips_ = 0;
};

void check(Input input) {
  const auto head = input.take<std::uint8_t>();
  const bool is_forged = (head & 0x80) != 0;
  const auto& log = base_logs()[(head & 0x3f) % base_logs().size()];
  const auto disk = log.disk->clone();
  if (const auto seed = input.take<std::uint8_t>(); seed != 0) {
    disk->power_cut(seed, {.torn_sectors = seed % 2 == 0, .split_mapped_pages = seed % 3 == 0});
  }
  Alteration alteration(log, files_of(*disk), is_forged, input);
  alteration.run();
  alteration.store(*disk);
  check_log(*disk, is_forged ? nullptr : &log.written,
            (head & 0x40) != 0 ? Verification::all : Verification::tail);
}

}  // namespace
}  // namespace nori::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nori::fuzz::check(nori::fuzz::Input(data, size));
  return 0;
}
