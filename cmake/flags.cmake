# Compiler flags, and why each is there.

if(PROJECT_IS_TOP_LEVEL)
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
  endif()
  # -O2 for the framework, -O3 where it pays (tandem_kernel_flags); no debug information.
  if(CMAKE_CXX_FLAGS_RELEASE STREQUAL "-O3 -DNDEBUG")
    set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG" CACHE STRING "Flags of a release build" FORCE)
  endif()
  find_program(CCACHE_PROGRAM ccache)
  if(CCACHE_PROGRAM AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  endif()
endif()

if(NOT TANDEM_SANITIZE MATCHES "^(address|thread|)$")
  message(FATAL_ERROR "TANDEM_SANITIZE is '${TANDEM_SANITIZE}'; expected 'address' or 'thread'")
endif()

set(tandem_sanitize_text "")
set(tandem_sanitize_flags "")
if(TANDEM_SANITIZE)
  set(kinds_address address,undefined)
  set(kinds_thread thread)
  set(tandem_sanitize_flags -fsanitize=${kinds_${TANDEM_SANITIZE}})
  set(tandem_sanitize_text ", sanitizers ${kinds_${TANDEM_SANITIZE}}")
endif()

include(CheckCXXCompilerFlag)
check_cxx_compiler_flag(-march=native tandem_has_march_native)

# For every target of Tandem's own: the library, the programs and the tests alike.
function(tandem_flags target)
  set(flags -Wall -Wextra)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC 12 warns of overlapping copies in `"literal" + std::string` (GCC bug 105651).
    list(APPEND flags -Wno-restrict)
  endif()
  if(TANDEM_WERROR)
    list(APPEND flags -Werror)
  endif()
  # One instruction set for all targets, not only for the kernels: templates and inline functions
  # of the headers are compiled into many objects, the linker keeps one copy of each, and it must
  # not matter which. (Their bits agree in any case: without contraction and without fast-math,
  # what a compiler may do with floating point does not depend on the instruction set. What must
  # not appear in a header is `omp simd reduction` or `#ifdef __AVX…`.)
  if(TANDEM_NATIVE AND tandem_has_march_native)
    list(APPEND flags -march=native)
  endif()
  if(TANDEM_SANITIZE)
    list(APPEND flags -O1 -g1 -fno-omit-frame-pointer ${tandem_sanitize_flags})
    if(TANDEM_SANITIZE STREQUAL "address")
      list(APPEND flags -fno-sanitize-recover=all)
    endif()
    target_link_options(${target} PRIVATE ${tandem_sanitize_flags})
  endif()
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${flags}>")
  if(target STREQUAL "tandem")
    # No contraction of a*b+c: fused and unfused programs, and all devices, give the same bits.
    # Public for the reason above: a copy compiled into the user's program may be the one kept.
    target_compile_options(tandem PUBLIC "$<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>")
  endif()
endfunction()

# For the kernels among `sources`: loops are vectorised, and vectors neither set errno nor raise
# floating-point exceptions anyone reads. No other fast-math: these two change no result.
function(tandem_kernel_flags)
  set(sources ${ARGN})
  list(FILTER sources INCLUDE REGEX "/cpu/[^/]*$")
  set(flags -fno-math-errno -fno-trapping-math)
  if(NOT TANDEM_SANITIZE AND NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
    list(APPEND flags -O3)
  endif()
  set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "${flags}")
endfunction()
