#include "snapshot/snapshot_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"
#include "format/record.h"
#include "format/snapshot_index.h"
#include "segment/segment_name.h"
#include "segment/segment_reader.h"

namespace nori {
namespace {

constexpr std::string_view kSnapshotSuffix = ".snapshot";
// How often segments that go while they are looked at are listed again.
constexpr int kAttemptsMax = 20;

std::string path_of(const io::Directory& snapshots, Sequence sequence) {
  return (snapshots.path() / snapshot_name(sequence)).string();
}

// One file of the list. Nothing if it went meanwhile.
std::optional<SnapshotFile> look_at(io::Directory& snapshots, Sequence sequence) {
  SnapshotFile found;
  found.name = snapshot_name(sequence);
  found.sequence = sequence;
  auto open = open_snapshot_file(snapshots, sequence);
  if (open) {
    return describe(*open);
  }
  if (open.error().system_errno == ENOENT) {
    return std::nullopt;
  }
  found.reason = open.error().message;
  // Whose it is counts for bad ones too.
  const auto file = snapshots.open(found.name, io::Access::read, io::Creation::existing);
  if (!file) {
    return found;
  }
  found.bytes = (*file)->size().value_or(0);
  std::array<std::byte, kSnapshotHeaderBytes> bytes;
  if (const auto done = (*file)->read_at(0, bytes); done && *done == bytes.size()) {
    if (const auto header = decode_snapshot_header(bytes); header) {
      found.log_id = header->log_id.bytes;
    }
  }
  return found;
}

}  // namespace

std::string snapshot_name(Sequence sequence) {
  return fmt::format("{:020}{}", sequence, kSnapshotSuffix);
}

std::optional<Sequence> parse_snapshot_name(std::string_view name) {
  if (!name.ends_with(kSnapshotSuffix)) {
    return std::nullopt;
  }
  const auto digits = name.substr(0, name.size() - kSnapshotSuffix.size());
  Sequence sequence = 0;
  const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), sequence);
  if (fault != std::errc{} || snapshot_name(sequence) != name || sequence > kCountMax) {
    return std::nullopt;
  }
  return sequence;
}

Result<std::unique_ptr<io::Directory>> find_snapshots(io::Directory& log_directory) {
  auto snapshots = log_directory.open_subdirectory(kSnapshotsName);
  if (!snapshots && snapshots.error().system_errno == ENOENT) {
    return nullptr;
  }
  return snapshots;
}

Result<std::optional<LogId>> find_log_id(io::Directory& log_directory) {
  // Beside a live writer all that was listed may go while it is looked at.
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    bool all_gone = true;
    bool any = false;
    for (const auto& name : NORI_TRY(log_directory.list())) {
      const auto id = parse_segment_name(name);
      if (!id) {
        continue;
      }
      any = true;
      const auto segment = NORI_TRY(SegmentReader::open_if_there(log_directory, *id));
      all_gone &= segment == nullptr;
      if (segment != nullptr && segment->header_fits()) {
        return segment->header()->log_id;
      }
    }
    if (!any || !all_gone) {
      break;
    }
  }
  return std::nullopt;
}

Result<OpenSnapshotFile> open_snapshot_file(io::Directory& snapshots, Sequence sequence) {
  const auto bad = [&](std::string_view what) {
    return make_error(ErrorCode::damaged, "{}: {}", path_of(snapshots, sequence), what);
  };
  OpenSnapshotFile open;
  open.file =
      NORI_TRY(snapshots.open(snapshot_name(sequence), io::Access::read, io::Creation::existing));
  open.bytes = NORI_TRY(open.file->size());
  std::array<std::byte, kSnapshotHeaderBytes> bytes;
  const auto header_bytes = NORI_TRY(open.file->read_at(0, bytes));
  const auto header = decode_snapshot_header(ByteView(bytes).first(header_bytes));
  if (!header && header.error().fault == HeaderFault::unsupported_version) {
    return make_error(ErrorCode::unsupported_version,
                      "{}: format version {} is newer than this library's {}; use a newer library",
                      path_of(snapshots, sequence), header.error().version, kSnapshotVersion);
  }
  if (!header) {
    return bad("its header is damaged");
  }
  if (header->sequence != sequence) {
    return bad(fmt::format("it is the snapshot of another sequence, {}", header->sequence));
  }
  if (open.bytes < kSnapshotHeaderBytes + kSnapshotIndexBytesMin + kSnapshotFooterBytes) {
    return bad("it is cut short");
  }
  const auto footer_offset = open.bytes - kSnapshotFooterBytes;
  const auto footer_bytes =
      NORI_TRY(open.file->read_at(footer_offset, ByteSpan(bytes).first(kSnapshotFooterBytes)));
  const auto footer =
      decode_snapshot_footer(ByteView(bytes).first(footer_bytes), header->seed(), footer_offset);
  if (!footer) {
    return bad("it does not end in its footer");
  }
  open.header = *header;
  open.footer = *footer;
  return open;
}

SnapshotFile describe(const OpenSnapshotFile& open) {
  SnapshotFile file;
  file.name = snapshot_name(open.header.sequence);
  file.sequence = open.header.sequence;
  file.bytes = open.bytes;
  file.valid = true;
  file.log_id = open.header.log_id.bytes;
  file.epoch.bits = open.header.epoch;
  file.created = time_point_of(static_cast<std::int64_t>(open.header.created_ms));
  file.entries = open.footer.entries;
  file.plain_bytes = open.footer.plain_bytes;
  return file;
}

Result<std::vector<SnapshotFile>> list_snapshot_files(io::Directory& snapshots) {
  std::vector<SnapshotFile> files;
  for (const auto& name : NORI_TRY(snapshots.list())) {
    if (const auto sequence = parse_snapshot_name(name); sequence) {
      if (auto file = look_at(snapshots, *sequence); file) {
        files.push_back(*std::move(file));
      }
    }
  }
  std::ranges::sort(files, {}, &SnapshotFile::sequence);
  return files;
}

Result<std::vector<SnapshotFile>> list_snapshots(io::Directory& log_directory) {
  const auto snapshots = NORI_TRY(find_snapshots(log_directory));
  if (snapshots == nullptr) {
    return std::vector<SnapshotFile>{};
  }
  return list_snapshot_files(*snapshots);
}

Result<void> settle_snapshots(io::Directory& log_directory) {
  const auto snapshots = NORI_TRY(find_snapshots(log_directory));
  if (snapshots == nullptr) {
    return {};
  }
  NORI_TRY(snapshots->sync());
  return log_directory.sync();
}

void refuse_other_logs(std::vector<SnapshotFile>& files, const LogId& log_id) {
  for (auto& file : files) {
    if (file.valid && file.log_id != log_id.bytes) {
      file.valid = false;
      file.reason = file.name + ": it is the snapshot of another log";
    }
  }
}

Result<void> remove_older_snapshots(io::Directory& snapshots, const LogId& log_id,
                                    std::uint32_t retain, std::vector<std::string>& removed) {
  const auto files = NORI_TRY(list_snapshot_files(snapshots));
  std::uint32_t kept = 0;
  std::size_t end = files.size();
  while (end > 0 && kept < retain) {
    --end;
    kept += files[end].valid && files[end].log_id == log_id.bytes ? 1 : 0;
  }
  const auto removed_before = removed.size();
  for (std::size_t i = 0; i < end; ++i) {
    if (files[i].log_id == log_id.bytes || !files[i].log_id) {
      NORI_TRY(snapshots.remove(files[i].name));
      removed.push_back(files[i].name);
    }
  }
  return removed.size() == removed_before ? Result<void>{} : snapshots.sync();
}

}  // namespace nori
