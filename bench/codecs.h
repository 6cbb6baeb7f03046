// The codecs, without any disk: Google Benchmark.

#pragma once

namespace nori::bench {

void run_codecs();

}  // namespace nori::bench
