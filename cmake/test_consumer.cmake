# Installs the build into an empty folder, moves it (a package must not depend on where it was
# installed), builds examples/consumer against it and runs that.
#   cmake -DTANDEM_BUILD_DIR=… -DSOURCE_DIR=… -DGENERATOR=… -DCXX=… -P test_consumer.cmake
set(work ${TANDEM_BUILD_DIR}/consumer-test)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    list(JOIN ARGV " " text)
    message(FATAL_ERROR "failed (${status}): ${text}")
  endif()
endfunction()

file(REMOVE_RECURSE ${work})
run(${CMAKE_COMMAND} --install ${TANDEM_BUILD_DIR} --prefix ${work}/installed)
file(RENAME ${work}/installed ${work}/moved)
run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${SOURCE_DIR} -B ${work}/build
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_PREFIX_PATH=${work}/moved)
run(${CMAKE_COMMAND} --build ${work}/build)
run(${work}/build/consumer)
