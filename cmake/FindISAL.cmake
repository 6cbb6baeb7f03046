# Intel's ISA-L: the target ISAL::ISAL.

include("${CMAKE_CURRENT_LIST_DIR}/NoriFindLibrary.cmake")
nori_find_library(ISAL isal isa-l/crc.h)
