# Runs an example in an empty directory, which is its first argument.

file(REMOVE_RECURSE "${directory}")
file(MAKE_DIRECTORY "${directory}")
execute_process(COMMAND "${program}" "${directory}" RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${program} answered ${result}")
endif()
file(REMOVE_RECURSE "${directory}")
