# The CUDA side. A build without it links no_cuda.cpp, which says that there is none and why.
#
# With nvcc there is also the target `tandem_cuda_headers`: the headers that kernels share with the
# CPU (scalar functors, 16-bit floats, Philox), compiled as device code, so that they stay fit for
# it also on machines without a GPU.

set(tandem_have_cuda OFF)
set(tandem_cuda_why "")
if(NOT TANDEM_CUDA)
  set(tandem_cuda_why "it was configured with TANDEM_CUDA=OFF")
else()
  if(NOT CMAKE_CUDA_COMPILER)
    find_program(TANDEM_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda
                 PATH_SUFFIXES bin)
    mark_as_advanced(TANDEM_NVCC)
    if(TANDEM_NVCC)
      set(CMAKE_CUDA_COMPILER ${TANDEM_NVCC})
    endif()
  endif()
  if(NOT CMAKE_CUDA_COMPILER)
    set(tandem_cuda_why "no nvcc was found when it was built")
    if(NOT TANDEM_CUDA STREQUAL "AUTO")
      message(FATAL_ERROR "TANDEM_CUDA=ON, but there is no nvcc; put it on PATH or set CUDACXX")
    endif()
  else()
    # Must be set before the language is enabled: CMake's default is older than new toolkits accept.
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES 80 90)
    endif()
    enable_language(CUDA)
    add_library(tandem_cuda_headers OBJECT EXCLUDE_FROM_ALL cuda/headers.cu)
    target_include_directories(tandem_cuda_headers PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_compile_options(tandem_cuda_headers PRIVATE
      -std=c++20 --fmad=false -Werror=all-warnings)
    set(tandem_cuda_why "this version of Tandem has none yet")
  endif()
endif()

target_sources(tandem PRIVATE cuda/no_cuda.cpp)
set_source_files_properties(cuda/no_cuda.cpp PROPERTIES
  COMPILE_DEFINITIONS "TANDEM_NO_CUDA_WHY=\"${tandem_cuda_why}\"")
set(tandem_cuda_text "no backend: ${tandem_cuda_why}")
if(CMAKE_CUDA_COMPILER_VERSION)
  string(APPEND tandem_cuda_text " (nvcc ${CMAKE_CUDA_COMPILER_VERSION})")
endif()
