# find_package(rsbmalloc), for Emscripten and for WASI. It is found with
# -Drsbmalloc_DIR=node_modules/rsbmalloc/lib/cmake/rsbmalloc (Emscripten's toolchain file ignores CMAKE_PREFIX_PATH).
#
#   target_link_libraries(app PRIVATE rsbmalloc::rsbmalloc)   takes the place of malloc
#   target_link_libraries(app PRIVATE rsbmalloc::prefixed)    rsbmalloc() and its kin, beside the program's malloc

get_filename_component(_rsbmalloc_package "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

if(EMSCRIPTEN)
  set(_rsbmalloc_libraries "${_rsbmalloc_package}/lib/wasm32-emscripten")
elseif(CMAKE_SYSTEM_NAME STREQUAL "WASI" OR CMAKE_C_COMPILER_TARGET MATCHES "^wasm32-")
  set(_rsbmalloc_libraries "${_rsbmalloc_package}/lib/wasm32-wasi")
else()
  set(rsbmalloc_FOUND FALSE)
  set(rsbmalloc_NOT_FOUND_MESSAGE
      "rsbmalloc is for WebAssembly: configure with emcmake, or with a wasm32 CMAKE_C_COMPILER_TARGET")
  return()
endif()

if(NOT TARGET rsbmalloc::rsbmalloc)
  add_library(rsbmalloc::rsbmalloc STATIC IMPORTED)
  set_target_properties(rsbmalloc::rsbmalloc PROPERTIES
    IMPORTED_LOCATION "${_rsbmalloc_libraries}/librsbmallocc.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_rsbmalloc_package}/include")
  if(EMSCRIPTEN)
    set_target_properties(rsbmalloc::rsbmalloc PROPERTIES INTERFACE_LINK_OPTIONS "-sMALLOC=none")
  endif()

  add_library(rsbmalloc::prefixed STATIC IMPORTED)
  set_target_properties(rsbmalloc::prefixed PROPERTIES
    IMPORTED_LOCATION "${_rsbmalloc_libraries}/librsbmallocc-prefixed.a"
    INTERFACE_INCLUDE_DIRECTORIES "${_rsbmalloc_package}/include")
endif()
