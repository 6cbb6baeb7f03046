# Zstandard: the target Zstd::Zstd.

include("${CMAKE_CURRENT_LIST_DIR}/NoriFindLibrary.cmake")
nori_find_library(Zstd zstd zstd.h)
