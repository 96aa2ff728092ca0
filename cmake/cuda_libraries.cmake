# The parts of CUDA beside nvcc, from a toolkit or from pip's wheels (nvidia/cu13 and its like in
# site-packages). For each NAME below: tandem_have_NAME, tandem_NAME_version, TANDEM_NAME_INCLUDE_DIR
# and TANDEM_NAME_LIBRARY; and for the summary tandem_cuda_parts, tandem_cuda_lacking.
#
# Looked for in TANDEM_CUDA_ROOT (a toolkit or a site-packages folder; a list is fine), around nvcc,
# in $CUDA_HOME and $CUDA_PATH, /usr/local/cuda, and what the first python3 has installed.
include(cmake/cuda_wheels.cmake)

function(tandem_cuda_roots out)
  set(roots ${TANDEM_CUDA_ROOT})
  if(CMAKE_CUDA_COMPILER)
    get_filename_component(real ${CMAKE_CUDA_COMPILER} REALPATH)
    foreach(compiler ${CMAKE_CUDA_COMPILER} ${real})
      get_filename_component(bin ${compiler} DIRECTORY)
      get_filename_component(root ${bin} DIRECTORY)
      list(APPEND roots ${root})
    endforeach()
  endif()
  list(APPEND roots $ENV{CUDA_HOME} $ENV{CUDA_PATH} /usr/local/cuda)
  # Wheels for CUDA 12 have a folder for each library, those for 13 share one; cuDNN and NCCL have
  # their own in both. Libraries for another version than the compiler's are of no use.
  string(REGEX MATCH "^[0-9]+" major "${CMAKE_CUDA_COMPILER_VERSION}")
  foreach(root ${TANDEM_CUDA_ROOT} ${tandem_cuda_wheels})
    foreach(nvidia ${root} ${root}/nvidia)
      if(IS_DIRECTORY ${nvidia}/cu13 AND NOT major STREQUAL "12")
        list(APPEND roots ${nvidia}/cu13 ${nvidia}/cudnn ${nvidia}/nccl)
      elseif(IS_DIRECTORY ${nvidia}/cuda_runtime AND NOT major STREQUAL "13")
        file(GLOB parts LIST_DIRECTORIES ON ${nvidia}/*)
        list(APPEND roots ${parts})
      endif()
    endforeach()
    # cudnn-frontend's headers lie in the folder of all of Python's headers.
    get_filename_component(site ${root} DIRECTORY)
    list(APPEND roots ${root} ${site})
  endforeach()
  list(REMOVE_DUPLICATES roots)
  set(${out} ${roots} PARENT_SCOPE)
endfunction()
tandem_cuda_roots(tandem_cuda_roots)

set(tandem_cuda_parts "")
set(tandem_cuda_lacking "")

# tandem_cuda_part(NAME TITLE HEADER header [LIBRARY name]
#                  [VERSION_HEADER header MAJOR macro [MINOR macro] [PATCH macro]])
function(tandem_cuda_part name title)
  cmake_parse_arguments(PARSE_ARGV 2 part "" "HEADER;VERSION_HEADER;MAJOR;MINOR;PATCH;LIBRARY" "")
  set(have OFF)
  find_path(TANDEM_${name}_INCLUDE_DIR ${part_HEADER} HINTS ${tandem_cuda_roots}
            PATH_SUFFIXES include extras/CUPTI/include targets/x86_64-linux/include)
  set(needed ${TANDEM_${name}_INCLUDE_DIR})
  mark_as_advanced(TANDEM_${name}_INCLUDE_DIR)
  set(version "")
  if(needed AND part_VERSION_HEADER AND EXISTS ${needed}/${part_VERSION_HEADER})
    foreach(key MAJOR MINOR PATCH)
      if(part_${key})
        file(STRINGS ${TANDEM_${name}_INCLUDE_DIR}/${part_VERSION_HEADER} line
             REGEX "#define +${part_${key}} +[0-9]")
        string(REGEX REPLACE ".*${part_${key}} +([0-9]+).*" "\\1" number "${line}")
        list(APPEND version ${number})
      endif()
    endforeach()
    list(JOIN version "." version)
    if(part_MAJOR MATCHES "^CUDA(RT)?_VERSION$")
      math(EXPR version_major "${version} / 1000")
      math(EXPR version_minor "${version} % 1000 / 10")
      set(version ${version_major}.${version_minor})
    endif()
  endif()
  if(part_LIBRARY)
    # Wheels have no libNAME.so, only the name with its version.
    find_library(TANDEM_${name}_LIBRARY ${part_LIBRARY} HINTS ${tandem_cuda_roots}
                 PATH_SUFFIXES lib64 lib extras/CUPTI/lib64 targets/x86_64-linux/lib)
    if(NOT TANDEM_${name}_LIBRARY)
      foreach(root ${tandem_cuda_roots})
        file(GLOB found ${root}/lib/lib${part_LIBRARY}.so.*)
        if(found)
          list(GET found 0 found)
          set(TANDEM_${name}_LIBRARY ${found} CACHE FILEPATH "" FORCE)
          break()
        endif()
      endforeach()
    endif()
    mark_as_advanced(TANDEM_${name}_LIBRARY)
    list(APPEND needed ${TANDEM_${name}_LIBRARY})
  endif()
  if(needed AND NOT needed MATCHES "NOTFOUND")
    set(have ON)
    set(tandem_cuda_parts ${tandem_cuda_parts} "${title} ${version}" PARENT_SCOPE)
  else()
    set(tandem_cuda_lacking ${tandem_cuda_lacking} ${title} PARENT_SCOPE)
  endif()
  set(tandem_have_${name} ${have} PARENT_SCOPE)
  set(tandem_${name}_version "${version}" PARENT_SCOPE)
endfunction()

# Its headers are also all that the emulated device of the tests needs.
tandem_cuda_part(cudart "runtime" HEADER cuda_runtime_api.h LIBRARY cudart_static
  VERSION_HEADER cuda_runtime_api.h MAJOR CUDART_VERSION)
tandem_cuda_part(cudnn "cuDNN" HEADER cudnn.h LIBRARY cudnn VERSION_HEADER cudnn_version.h
  MAJOR CUDNN_MAJOR MINOR CUDNN_MINOR PATCH CUDNN_PATCHLEVEL)
tandem_cuda_part(cublaslt "cuBLASLt" HEADER cublasLt.h LIBRARY cublasLt VERSION_HEADER cublas_api.h
  MAJOR CUBLAS_VER_MAJOR MINOR CUBLAS_VER_MINOR PATCH CUBLAS_VER_PATCH)
tandem_cuda_part(nvrtc "NVRTC" HEADER nvrtc.h LIBRARY nvrtc VERSION_HEADER cuda.h
  MAJOR CUDA_VERSION)
tandem_cuda_part(nccl "NCCL" HEADER nccl.h LIBRARY nccl VERSION_HEADER nccl.h
  MAJOR NCCL_MAJOR MINOR NCCL_MINOR PATCH NCCL_PATCH)
tandem_cuda_part(cupti "CUPTI" HEADER cupti.h LIBRARY cupti VERSION_HEADER cuda.h MAJOR CUDA_VERSION)

# Headers only, and in no package of Debian's: the wheel has them. Older ones mix up what they note of
# engines when these are asked for twice.
set(tandem_cudnn_frontend_wheel 1.32.0)
if(tandem_have_cudnn)
  set(unpacked ${CMAKE_BINARY_DIR}/_deps/cudnn-frontend-${tandem_cudnn_frontend_wheel})
  list(APPEND tandem_cuda_roots ${unpacked})
  find_path(TANDEM_cudnn_frontend_INCLUDE_DIR cudnn_frontend.h HINTS ${tandem_cuda_roots}
            PATH_SUFFIXES include)
  if(NOT TANDEM_cudnn_frontend_INCLUDE_DIR AND TANDEM_PYTHON3)
    message(STATUS "cudnn-frontend is not installed: fetching its wheel "
                   "nvidia-cudnn-frontend ${tandem_cudnn_frontend_wheel}")
    execute_process(
      COMMAND ${TANDEM_PYTHON3} -m pip download --quiet --disable-pip-version-check --no-deps
              --only-binary :all: --dest ${unpacked}
              nvidia-cudnn-frontend==${tandem_cudnn_frontend_wheel}
      RESULT_VARIABLE failed ERROR_VARIABLE why OUTPUT_QUIET)
    file(GLOB wheel ${unpacked}/*.whl)
    if(NOT failed AND wheel)
      file(ARCHIVE_EXTRACT INPUT ${wheel} DESTINATION ${unpacked} PATTERNS include/*)
      file(REMOVE ${wheel})
    else()
      message(STATUS "… failed: ${why}")
    endif()
  endif()
  tandem_cuda_part(cudnn_frontend "cudnn-frontend" HEADER cudnn_frontend.h
    VERSION_HEADER cudnn_frontend_version.h MAJOR CUDNN_FRONTEND_MAJOR_VERSION
    MINOR CUDNN_FRONTEND_MINOR_VERSION PATCH CUDNN_FRONTEND_PATCH_VERSION)
endif()
if(tandem_have_cudnn_frontend AND
   tandem_cudnn_frontend_version VERSION_LESS tandem_cudnn_frontend_wheel)
  message(STATUS "cudnn-frontend ${tandem_cudnn_frontend_version} is older than "
                 "${tandem_cudnn_frontend_wheel}: cuDNN is not used")
  set(tandem_have_cudnn_frontend OFF)
endif()
# Nothing here uses cuDNN without these. cudnn-frontend calls NVRTC.
if(NOT tandem_have_cudnn_frontend OR NOT tandem_have_nvrtc OR tandem_cudnn_version VERSION_LESS 9)
  set(tandem_have_cudnn OFF)
endif()
