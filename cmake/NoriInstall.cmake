# What `cmake --install` lays down: headers, libraries, the tool, and the CMake package.

include(CMakePackageConfigHelpers)

set(nori_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/nori")

set(nori_installed)
foreach(name wal store replicate)
  if(TARGET nori_${name})
    list(APPEND nori_installed nori_${name})
  endif()
endforeach()
if(NOT nori_installed)
  return()
endif()

install(TARGETS ${nori_installed} EXPORT noriTargets
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
if(TARGET nori)
  install(TARGETS nori RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
endif()

install(DIRECTORY include/nori DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        FILES_MATCHING PATTERN "*.h")
install(EXPORT noriTargets NAMESPACE nori:: DESTINATION "${nori_package_dir}")

configure_package_config_file(cmake/noriConfig.cmake.in noriConfig.cmake
  INSTALL_DESTINATION "${nori_package_dir}"
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break.
write_basic_package_version_file(noriConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
    "${CMAKE_CURRENT_BINARY_DIR}/noriConfig.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/noriConfigVersion.cmake"
    cmake/FindISAL.cmake
    cmake/FindLZ4.cmake
    cmake/FindZstd.cmake
    cmake/NoriFindLibrary.cmake
  DESTINATION "${nori_package_dir}")
