# One executable per folder of tests/ (linking many small ones takes longer than compiling them):
# tests/ops/*.cpp -> test_ops. tests/test_*.cpp -> test_tandem. The other tests/*.cpp are shared by
# all of them. One ctest test per executable, and a few that are scripts.
file(GLOB support CONFIGURE_DEPENDS tests/*.cpp)
set(top ${support})
list(FILTER support EXCLUDE REGEX "/test_[^/]*$")
list(FILTER top INCLUDE REGEX "/test_[^/]*$")
add_library(tandem_test_support STATIC ${support})
target_link_libraries(tandem_test_support PUBLIC tandem GTest::gtest)
tandem_flags(tandem_test_support)

set(tandem_test_timeout 1500)
if(TANDEM_SANITIZE)
  set(tandem_test_timeout 9000)
endif()

# tandem_test(NAME [ARGS ARGUMENT...] SOURCES FILE...): the program test_NAME, run with ARGS.
function(tandem_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "" "" "ARGS;SOURCES")
  add_executable(test_${name} ${test_SOURCES})
  target_link_libraries(test_${name} PRIVATE $<TARGET_NAME_IF_EXISTS:tandem_ladder>
                        tandem_test_support nlohmann_json::nlohmann_json)
  set_target_properties(test_${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  tandem_flags(test_${name})
  add_test(NAME ${name} COMMAND test_${name} ${test_ARGS})
  # Several tests share the cores: waiting threads must sleep, not spin.
  set_tests_properties(${name} PROPERTIES TIMEOUT ${tandem_test_timeout} LABELS unit
    ENVIRONMENT "OMP_WAIT_POLICY=passive;ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=1;UBSAN_OPTIONS=print_stacktrace=1")
endfunction()

if(top)
  tandem_test(tandem SOURCES ${top})
endif()
foreach(folder core ops cpu autograd graph nn data benchmarks)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS tests/${folder}/*.cpp)
  if(sources)
    tandem_test(${folder} SOURCES ${sources})
  endif()
endforeach()

if(TARGET tandem-train AND TARGET tandem-tradeoff)
  file(GLOB sources CONFIGURE_DEPENDS tests/apps/*.cpp)
  tandem_test(apps SOURCES ${sources})
  target_compile_definitions(test_apps PRIVATE TANDEM_APPS="${CMAKE_BINARY_DIR}/apps")
  add_dependencies(test_apps tandem-train tandem-tradeoff)
endif()
if(tandem_have_onednn)
  target_compile_definitions(test_cpu PRIVATE TANDEM_HAS_ONEDNN)
  if(NOT BUILD_SHARED_LIBS)
    # As a build without oneDNN: these stand-ins come before the library's members of that name.
    file(GLOB sources CONFIGURE_DEPENDS tests/cpu/*.cpp)
    tandem_test(cpu_without_onednn SOURCES ${sources} ${tandem_without_onednn})
  endif()
endif()

# What is said of every device is tested on each: these programs take --device.
set(tandem_device_tests ops autograd graph nn benchmarks)

# On a GPU. Skipped where there is none.
if(tandem_have_cuda)
  file(GLOB sources CONFIGURE_DEPENDS tests/cuda/test_*.cpp tests/cuda/*.cu)
  list(FILTER sources EXCLUDE REGEX "/emulation_[^/]*$")
  if(NOT tandem_have_nvrtc)
    list(FILTER sources EXCLUDE REGEX "/test_nvrtc\\.cpp$")
  endif()
  tandem_test(cuda SOURCES ${sources})
  target_compile_options(test_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${tandem_cuda_flags}>")
  target_include_directories(test_cuda SYSTEM PRIVATE ${TANDEM_cudart_INCLUDE_DIR})
  if(tandem_have_cudnn)
    target_compile_definitions(test_cuda PRIVATE TANDEM_HAS_CUDNN)
  endif()
  foreach(folder ${tandem_device_tests})
    add_test(NAME ${folder}_cuda COMMAND test_${folder} --device cuda)
    set_tests_properties(${folder}_cuda PROPERTIES TIMEOUT 1500 LABELS gpu SKIP_RETURN_CODE 77)
  endforeach()
endif()

# On an emulated one: cuda/emulation/device.h. Needs the toolkit's headers, but neither nvcc nor a
# GPU.
if(TANDEM_cudart_INCLUDE_DIR)
  add_subdirectory(cuda/emulation)
  # Not what takes minutes there: large tensors for several threads, whole nets over many steps.
  string(CONCAT slow "-*DoesNotDependOnThreads*:Autocast.CompiledTraining*"
         ":Nets/TrainingStep.*StepsEqualEager/lenet:Nets/TrainingStep.*StepsEqualEager/vgg"
         ":Nets/TrainingStep.EqualEager*/lenet:Nets/TrainingStep.EqualEager*/vgg")
  foreach(folder ${tandem_device_tests})
    tandem_test(${folder}_emulated ARGS --device cuda --gtest_filter=${slow}
      SOURCES $<TARGET_OBJECTS:test_${folder}> $<TARGET_OBJECTS:tandem_cuda_emulated>)
  endforeach()
endif()

# --- scripts
set(arrows ${CMAKE_CURRENT_SOURCE_DIR}/cmake/check_arrows.sh)
add_test(NAME arrows COMMAND ${arrows} ${CMAKE_CURRENT_SOURCE_DIR})
add_test(NAME arrows_self_test COMMAND ${arrows} --self-test)
set(docs ${CMAKE_CURRENT_SOURCE_DIR}/cmake/check_docs.sh)
add_test(NAME docs COMMAND ${docs} ${CMAKE_CURRENT_SOURCE_DIR})
add_test(NAME docs_self_test COMMAND ${docs} --self-test)
set_tests_properties(arrows arrows_self_test docs docs_self_test PROPERTIES LABELS style)
add_test(NAME mnist_download COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/cmake/mnist.sh --self-test)
set_tests_properties(mnist_download PROPERTIES LABELS package)
add_test(NAME gpu_check
         COMMAND bash ${CMAKE_CURRENT_SOURCE_DIR}/benchmarks/gpu_check.sh --self-test)
set_tests_properties(gpu_check PROPERTIES LABELS package)

# The installed package, used by a project outside this tree. A sanitized library would need a
# sanitized user.
if(NOT TANDEM_SANITIZE)
  add_test(NAME consumer
    COMMAND ${CMAKE_COMMAND} -DTANDEM_BUILD_DIR=${CMAKE_BINARY_DIR}
            -DSOURCE_DIR=${CMAKE_CURRENT_SOURCE_DIR}/examples/consumer -DGENERATOR=${CMAKE_GENERATOR}
            -DCXX=${CMAKE_CXX_COMPILER} -P ${CMAKE_CURRENT_SOURCE_DIR}/cmake/test_consumer.cmake)
  set_tests_properties(consumer PROPERTIES TIMEOUT 600 LABELS package)
endif()
