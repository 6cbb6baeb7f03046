// The rows there are. Each is made just before it runs, and lets go of what it holds afterwards.

#pragma once

#include <span>
#include <string_view>

#include "bench/driver.h"
#include "bench/setting.h"

namespace nori::bench {

[[nodiscard]] Row append_100_row(const Setting& setting);
[[nodiscard]] Row append_1k_row(const Setting& setting);
[[nodiscard]] Row batch_100_row(const Setting& setting);
[[nodiscard]] Row append_threads_row(const Setting& setting);
[[nodiscard]] Row append_scaling_row(const Setting& setting);
[[nodiscard]] Row append_sizes_row(const Setting& setting);
[[nodiscard]] Row append_minute_row(const Setting& setting);
[[nodiscard]] Row limits_row(const Setting& setting);
[[nodiscard]] Row append_window_row(const Setting& setting);
[[nodiscard]] Row append_compressed_row(const Setting& setting);
[[nodiscard]] Row append_follow_row(const Setting& setting);
[[nodiscard]] Row trickle_row(const Setting& setting);
[[nodiscard]] Row many_logs_row(const Setting& setting);
[[nodiscard]] Row durable_1_row(const Setting& setting);
[[nodiscard]] Row durable_64_row(const Setting& setting);
[[nodiscard]] Row durable_async_row(const Setting& setting);
[[nodiscard]] Row scan_1k_row(const Setting& setting);
[[nodiscard]] Row verify_row(const Setting& setting);
[[nodiscard]] Row verify_cold_row(const Setting& setting);
[[nodiscard]] Row open_row(const Setting& setting);
[[nodiscard]] Row open_10k_row(const Setting& setting);
[[nodiscard]] Row compact_garbage_row(const Setting& setting);
[[nodiscard]] Row compact_live_row(const Setting& setting);
[[nodiscard]] Row append_compacting_row(const Setting& setting);
[[nodiscard]] Row delete_10k_row(const Setting& setting);
[[nodiscard]] Row consumer_row(const Setting& setting);
[[nodiscard]] Row store_put_row(const Setting& setting);
[[nodiscard]] Row store_batch_row(const Setting& setting);
[[nodiscard]] Row store_ascending_row(const Setting& setting);
[[nodiscard]] Row store_durable_64_row(const Setting& setting);
[[nodiscard]] Row store_get_row(const Setting& setting);
[[nodiscard]] Row store_scan_row(const Setting& setting);
[[nodiscard]] Row store_open_row(const Setting& setting);
[[nodiscard]] Row store_checkpoint_row(const Setting& setting);

struct RowKind {
  std::string_view name;
  Row (*make)(const Setting& setting);
};

inline constexpr RowKind kRows[] = {
    {"limits", limits_row},
    {"append-100", append_100_row},
    {"append-1k", append_1k_row},
    {"batch-100", batch_100_row},
    {"append-threads", append_threads_row},
    {"append-scaling", append_scaling_row},
    {"append-sizes", append_sizes_row},
    {"append-minute", append_minute_row},
    {"append-window", append_window_row},
    {"append-compressed", append_compressed_row},
    {"append-follow", append_follow_row},
    {"trickle", trickle_row},
    {"many-logs", many_logs_row},
    {"durable-1", durable_1_row},
    {"durable-64", durable_64_row},
    {"durable-async", durable_async_row},
    {"scan-1k", scan_1k_row},
    {"verify", verify_row},
    {"verify-cold", verify_cold_row},
    {"open", open_row},
    {"open-10k", open_10k_row},
    {"compact-garbage", compact_garbage_row},
    {"compact-live", compact_live_row},
    {"append-compacting", append_compacting_row},
    {"delete-10k", delete_10k_row},
    {"consumer", consumer_row},
    {"store-put", store_put_row},
    {"store-batch", store_batch_row},
    {"store-ascending", store_ascending_row},
    {"store-durable-64", store_durable_64_row},
    {"store-get", store_get_row},
    {"store-scan", store_scan_row},
    {"store-open", store_open_row},
    {"store-checkpoint", store_checkpoint_row},
};

}  // namespace nori::bench
