# cmake --install: headers under include/tandem, the library, and what find_package(tandem) reads.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tandem)
install(TARGETS tandem EXPORT tandemTargets)
install(EXPORT tandemTargets NAMESPACE tandem:: DESTINATION ${package_dir})
configure_package_config_file(cmake/tandemConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/tandemConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/tandemConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tandemConfig.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/tandemConfigVersion.cmake cmake/FindoneDNN.cmake
        DESTINATION ${package_dir})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# In the tree headers name each other from the root ("core/tensor.h"). Installed they stand under
# tandem/, and are rewritten to say so: names as common as "core/…" on every user's include path
# would sooner or later find the user's own files, or the other way round.
string(CONFIGURE [[
  foreach(folder @tandem_public_folders@)
    file(GLOB_RECURSE headers RELATIVE "@CMAKE_CURRENT_SOURCE_DIR@" "@CMAKE_CURRENT_SOURCE_DIR@/${folder}/*.h")
    foreach(header ${headers})
      file(READ "@CMAKE_CURRENT_SOURCE_DIR@/${header}" text)
      string(REGEX REPLACE "#include \"([a-z]+)/" "#include \"tandem/\\1/" text "${text}")
      string(REGEX REPLACE "^tandem/" "" name "${header}")
      set(path "${CMAKE_INSTALL_PREFIX}/@CMAKE_INSTALL_INCLUDEDIR@/tandem/${name}")
      # CMAKE_INSTALL_MANIFEST_FILES is what an uninstall goes by.
      list(APPEND CMAKE_INSTALL_MANIFEST_FILES "${path}")
      set(old "")
      if(EXISTS "$ENV{DESTDIR}${path}")
        file(READ "$ENV{DESTDIR}${path}" old)
      endif()
      if(NOT old STREQUAL text)
        file(WRITE "$ENV{DESTDIR}${path}" "${text}")
      endif()
    endforeach()
  endforeach()
  message(STATUS "Installed the headers: $ENV{DESTDIR}${CMAKE_INSTALL_PREFIX}/@CMAKE_INSTALL_INCLUDEDIR@/tandem")
]] install_headers @ONLY)
install(CODE "${install_headers}")
