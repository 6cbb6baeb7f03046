// nori_instructions: work whose instructions are counted (scripts/instructions.py). Usage:
//
//   nori_instructions append|batch|scan VALUE_BYTES RECORDS DIRECTORY
//
// The log's background thread is off, and nothing waits for a disk, so that each run takes the same
// instructions.

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <string_view>

#include "bench/expect.h"
#include "nori/wal.h"

namespace {

using namespace nori;
using bench::expect;

WalOptions options_for(const std::filesystem::path& directory) {
  WalOptions options;
  options.directory = directory;
  options.fsync = FsyncPolicy::os();
  options.background_thread = false;
  return options;
}

void append(Wal& wal, std::string_view bytes, std::uint64_t value_bytes, std::uint64_t records) {
  for (std::uint64_t i = 0; i < records; ++i) {
    expect(wal.append(Record::put(bytes.substr(i % 64, 16), bytes.substr(i % 64, value_bytes))));
  }
}

void append_batches(Wal& wal, std::string_view bytes, std::uint64_t value_bytes,
                    std::uint64_t records) {
  constexpr std::uint64_t kRecordsPerBatch = 100;
  Batch batch;
  for (std::uint64_t i = 0; i < records; i += kRecordsPerBatch) {
    batch.clear();
    for (std::uint64_t j = 0; j < kRecordsPerBatch; ++j) {
      batch.put(bytes.substr(j % 64, 16), bytes.substr(j % 64, value_bytes));
    }
    expect(wal.append(batch));
  }
}

void scan(const Wal& wal) {
  auto reader = expect(wal.read_from(begin_of_log));
  while (expect(reader.next())) {
  }
}

int run(int argc, char** argv) {
  if (argc != 5) {
    std::fputs("usage: nori_instructions append|batch|scan VALUE_BYTES RECORDS DIRECTORY\n",
               stderr);
    return 2;
  }
  const std::string_view work = argv[1];
  const auto value_bytes = std::strtoull(argv[2], nullptr, 10);
  const auto records = std::strtoull(argv[3], nullptr, 10);
  const auto options = options_for(argv[4]);
  std::string bytes(value_bytes + 64, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>(i * i);
  }
  auto wal = expect(Wal::open(options)).wal;
  if (work == "batch") {
    append_batches(wal, bytes, value_bytes, records);
  } else {
    append(wal, bytes, value_bytes, records);
  }
  if (work == "scan") {
    expect(wal.close());
    wal = expect(Wal::open(options)).wal;
    scan(wal);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fputs((std::string("nori_instructions: ") + error.what() + "\n").c_str(), stderr);
    return 1;
  }
}
