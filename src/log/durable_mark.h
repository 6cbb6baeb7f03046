// How far a log is durable, as its files say: for who does not write it.

#pragma once

#include "format/log_id.h"
#include "io/file_system.h"
#include "log/ring_view.h"
#include "nori/error.h"
#include "nori/position.h"

namespace nori {

/// The mark in `ring`; where there is none, all of a log that ends in a close frame. 0 where
/// nothing says so: then the frames do, each for what lies before it.
[[nodiscard]] Result<Sequence> durable_mark_on_disk(io::Directory& directory, const LogId& log_id,
                                                    RingView* ring);

}  // namespace nori
