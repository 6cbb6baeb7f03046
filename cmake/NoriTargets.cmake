# How the folders of the tree become targets. Any of them may be missing.

include_guard(GLOBAL)

# The sources of a folder of the tree, without its tests.
function(nori_sources folder out)
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/${folder}/*.cc")
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$")
  set(${out} ${sources} PARENT_SCOPE)
endfunction()

# nori_add_library(NAME FOLDERS folder... [USES library...] [LINKS library...])
#
# One OBJECT library nori_FOLDER_objects for each folder of src/, and one library nori_NAME (static, or
# shared with BUILD_SHARED_LIBS) of all of them, known and exported as nori::NAME. USES shows in
# its headers, LINKS does not.
function(nori_add_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "FOLDERS;USES;LINKS")

  set(objects)
  foreach(folder IN LISTS arg_FOLDERS)
    nori_sources(src/${folder} sources)
    if(NOT sources)
      continue()
    endif()
    add_library(nori_${folder}_objects OBJECT ${sources})
    target_compile_features(nori_${folder}_objects PUBLIC cxx_std_23)
    target_include_directories(nori_${folder}_objects PRIVATE "${PROJECT_SOURCE_DIR}/include"
                                                      "${PROJECT_SOURCE_DIR}/src")
    target_link_libraries(nori_${folder}_objects PRIVATE ${arg_USES} ${arg_LINKS})
    set_target_properties(nori_${folder}_objects PROPERTIES CXX_EXTENSIONS OFF)
    if(BUILD_SHARED_LIBS)
      set_target_properties(nori_${folder}_objects PROPERTIES POSITION_INDEPENDENT_CODE ON)
    endif()
    list(APPEND objects $<TARGET_OBJECTS:nori_${folder}_objects>)
  endforeach()
  if(NOT objects)
    return()
  endif()

  add_library(nori_${name} ${objects})
  add_library(nori::${name} ALIAS nori_${name})
  target_compile_features(nori_${name} PUBLIC cxx_std_23)
  target_include_directories(nori_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(nori_${name} PUBLIC ${arg_USES} PRIVATE ${arg_LINKS})
  set_target_properties(nori_${name} PROPERTIES
    CXX_EXTENSIONS OFF
    EXPORT_NAME ${name}
    VERSION ${PROJECT_VERSION}
    # Before 1.0 a minor version may break.
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
endfunction()

# testing/ as nori::testing. It is for builds that have the sources: what it simulates, io/, is not
# installed.
function(nori_add_testing)
  nori_sources(testing sources)
  if(NOT sources OR NOT TARGET nori_wal)
    return()
  endif()
  add_library(nori_testing STATIC ${sources})
  add_library(nori::testing ALIAS nori_testing)
  target_include_directories(nori_testing PUBLIC "${PROJECT_SOURCE_DIR}"
                                                 "${PROJECT_SOURCE_DIR}/src")
  target_link_libraries(nori_testing PUBLIC nori_wal PRIVATE fmt::fmt)
  set_target_properties(nori_testing PROPERTIES CXX_EXTENSIONS OFF)
endfunction()

# The command line tool: src/cli/main.cc, and the rest of src/cli as a library for its unit tests.
function(nori_add_tool)
  nori_sources(src/cli sources)
  if(NOT sources OR NOT TARGET nori_store)
    return()
  endif()
  find_package(CLI11 REQUIRED)
  find_package(nlohmann_json REQUIRED)

  add_library(nori_cli INTERFACE)
  target_include_directories(nori_cli INTERFACE "${PROJECT_SOURCE_DIR}/src")
  if(NORI_SANITIZER)
    # Its commands call the library and parse text: optimizing what the sanitizers add takes
    # minutes and gains nothing.
    target_compile_options(nori_cli INTERFACE -O0 -g1)
  endif()
  target_compile_definitions(nori_cli INTERFACE NORI_VERSION="${PROJECT_VERSION}")
  target_link_libraries(nori_cli INTERFACE nori_store fmt::fmt CLI11::CLI11
                                           nlohmann_json::nlohmann_json Threads::Threads)
  if(TARGET nori_replicate)
    target_link_libraries(nori_cli INTERFACE nori_replicate)
  endif()

  set(main ${sources})
  list(FILTER main INCLUDE REGEX "/main\\.cc$")
  list(REMOVE_ITEM sources ${main})
  if(sources)
    add_library(nori_cli_commands STATIC ${sources})
    # Several files to a compilation: most of it is the headers of CLI11 and JSON.
    set_target_properties(nori_cli_commands PROPERTIES
      CXX_EXTENSIONS OFF
      UNITY_BUILD ON
      UNITY_BUILD_BATCH_SIZE 8)
    target_link_libraries(nori_cli_commands PUBLIC nori_cli)
  endif()
  if(main)
    add_executable(nori ${main})
    target_link_libraries(nori PRIVATE nori_cli $<TARGET_NAME_IF_EXISTS:nori_cli_commands>)
    set_target_properties(nori PROPERTIES
      CXX_EXTENSIONS OFF
      INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}"  # with BUILD_SHARED_LIBS
      RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
  endif()
endfunction()
