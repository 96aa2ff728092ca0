# Headers that sources compiled at run time include (cuda/embedded.h), as strings in a .cpp.
#
#   include(cuda/embed.cmake)
#   tandem_embed_headers(TARGET)     adds the .cpp to the target
#
# As a script (-P), with ROOT, HEADERS and OUTPUT, it writes that file.
set(tandem_embedded_headers core/half.h core/functors.h cuda/divisor.h cuda/pack.h
    cuda/fused_device.h)

if(CMAKE_SCRIPT_MODE_FILE)
  set(entries "")
  foreach(header ${tandem_embedded_headers})
    file(READ ${ROOT}/${header} text)
    string(APPEND entries "    {\"${header}\", R\"tandem(${text})tandem\"},\n")
  endforeach()
  file(WRITE ${OUTPUT}
"#include \"cuda/embedded.h\"

namespace tandem::cuda {

std::span<const EmbeddedHeader> embedded_headers() {
  static constexpr EmbeddedHeader headers[] = {
${entries}  };
  return headers;
}

}  // namespace tandem::cuda
")
  return()
endif()

set(tandem_embed_script ${CMAKE_CURRENT_LIST_FILE})
get_filename_component(tandem_embed_root ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)

function(tandem_embed_headers target)
  set(output ${CMAKE_CURRENT_BINARY_DIR}/tandem_embedded_headers.cpp)
  set(headers ${tandem_embedded_headers})
  list(TRANSFORM headers PREPEND ${tandem_embed_root}/)
  add_custom_command(OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} -DROOT=${tandem_embed_root} -DOUTPUT=${output}
            -P ${tandem_embed_script}
    DEPENDS ${headers} ${tandem_embed_script} VERBATIM)
  target_sources(${target} PRIVATE ${output})
endfunction()
