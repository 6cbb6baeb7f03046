# LZ4: the target LZ4::LZ4.

include("${CMAKE_CURRENT_LIST_DIR}/NoriFindLibrary.cmake")
nori_find_library(LZ4 lz4 lz4.h)
