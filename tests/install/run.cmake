# Installs nori into an empty prefix; builds a program that finds it there and runs it.

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result OUTPUT_VARIABLE output
                  ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "${command}\n${output}\nanswered ${result}")
  endif()
endfunction()

file(REMOVE_RECURSE "${scratch}")
file(MAKE_DIRECTORY "${scratch}/data")
run("${CMAKE_COMMAND}" --install "${build}" --prefix "${scratch}/prefix" --config "${config}")
run("${CMAKE_COMMAND}" -S "${consumer}" -B "${scratch}/build" -G "${generator}"
    "-DCMAKE_CXX_COMPILER=${compiler}" "-DCMAKE_PREFIX_PATH=${scratch}/prefix"
    "-DCMAKE_BUILD_TYPE=${config}")
run("${CMAKE_COMMAND}" --build "${scratch}/build" --config "${config}")
run("${scratch}/build/consumer" "${scratch}/data/log")
