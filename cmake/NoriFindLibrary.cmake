# Finds a library that brings no CMake package, or not in every distribution. Installed with nori,
# whose package needs it too.

include_guard(GLOBAL)
include(FindPackageHandleStandardArgs)

# nori_find_library(NAME LIBRARY HEADER): the target NAME::NAME, for FindNAME.cmake. A macro, because
# find_package looks for its answer where it was called.
macro(nori_find_library name library header)
  find_package(PkgConfig QUIET)
  if(PkgConfig_FOUND)
    pkg_check_modules(PC_${name} QUIET lib${library})
  endif()

  find_path(${name}_INCLUDE_DIR ${header} HINTS ${PC_${name}_INCLUDE_DIRS})
  find_library(${name}_LIBRARY ${library} HINTS ${PC_${name}_LIBRARY_DIRS})
  mark_as_advanced(${name}_INCLUDE_DIR ${name}_LIBRARY)

  find_package_handle_standard_args(${name} REQUIRED_VARS ${name}_LIBRARY ${name}_INCLUDE_DIR
                                            VERSION_VAR PC_${name}_VERSION)

  if(${name}_FOUND AND NOT TARGET ${name}::${name})
    add_library(${name}::${name} UNKNOWN IMPORTED)
    set_target_properties(${name}::${name} PROPERTIES
      IMPORTED_LOCATION "${${name}_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${${name}_INCLUDE_DIR}")
  endif()
endmacro()
