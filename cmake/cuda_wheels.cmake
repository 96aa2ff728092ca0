# Where to look for CUDA beside the usual places: TANDEM_CUDA_ROOT, and tandem_cuda_wheels, the folders
# `nvidia` among the packages of the first python3, where pip's wheels put what they bring.
include_guard()
set(TANDEM_CUDA_ROOT "" CACHE PATH "Where CUDA's headers and libraries are, when not found")

find_program(TANDEM_PYTHON3 python3)
mark_as_advanced(TANDEM_PYTHON3)
set(tandem_cuda_wheels "")
if(TANDEM_PYTHON3)
  execute_process(
    COMMAND ${TANDEM_PYTHON3} -c "import nvidia; print(';'.join(nvidia.__path__))"
    OUTPUT_VARIABLE tandem_cuda_wheels ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
