#include "bench/codecs.h"

#include <benchmark/benchmark.h>

#include <array>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "bench/workload.h"
#include "format/frame.h"
#include "format/record.h"

namespace nori::bench {
namespace {

constexpr std::uint32_t kSeed = 0x1234'5678;

FrameHeader some_header() {
  return {.kind = FrameKind::records,
          .record_count = 1,
          .payload_bytes = 119,
          .payload_crc32c = 0x9abc'def0,
          .first_sequence = 1'000'000,
          .epoch = (std::uint64_t{3} << 40) | 12345,
          .time_ms = 1'700'000'000'000,
          .durable_mark = 999'000};
}

void crc32c_of(benchmark::State& state) {
  const std::vector<std::byte> bytes(static_cast<std::size_t>(state.range(0)), std::byte{7});
  for (auto _ : state) {
    benchmark::DoNotOptimize(crc32c(kSeed, bytes));
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(crc32c_of)->Arg(38)->Arg(119)->Arg(1040)->Arg(16 << 10)->Arg(256 << 10);

void encode_frame_header_of(benchmark::State& state) {
  const FrameHeader header = some_header();
  std::array<std::byte, kFrameHeaderBytes> bytes{};
  for (auto _ : state) {
    encode_frame_header(header, kSeed, bytes.data());
    benchmark::DoNotOptimize(bytes);
  }
}
BENCHMARK(encode_frame_header_of);

void decode_frame_header_of(benchmark::State& state) {
  std::array<std::byte, kFrameHeaderBytes> bytes{};
  encode_frame_header(some_header(), kSeed, bytes.data());
  for (auto _ : state) {
    benchmark::DoNotOptimize(decode_frame_header(bytes, kSeed));
  }
}
BENCHMARK(decode_frame_header_of);

/// A record with a value of so many bytes, into a batch.
void encode_record_of(benchmark::State& state) {
  const Workload workload(static_cast<std::size_t>(state.range(0)));
  Batch batch;
  std::uint64_t i = 0;
  for (auto _ : state) {
    batch.clear();
    const BenchRecord& record = workload.record(i++);
    batch.put(record.key, record.value);
    benchmark::DoNotOptimize(batch.encoded().data());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(encode_record_of)->Arg(100)->Arg(1024);

void decode_record_of(benchmark::State& state) {
  const Workload workload(static_cast<std::size_t>(state.range(0)));
  Batch batch;
  batch.put(workload.record(0).key, workload.record(0).value);
  for (auto _ : state) {
    ByteView payload = as_byte_view(batch.encoded());
    benchmark::DoNotOptimize(decode_record(payload));
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(decode_record_of)->Arg(100)->Arg(1024);

}  // namespace

void run_codecs() {
  int argc = 1;
  std::string name = "nori_bench";
  std::array<char*, 2> argv = {name.data(), nullptr};
  benchmark::Initialize(&argc, argv.data());
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}

}  // namespace nori::bench
