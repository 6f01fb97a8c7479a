# find_package(rsbmalloc), for Emscripten and for WASI. It is found with
# -Drsbmalloc_DIR=node_modules/rsbmalloc/lib/cmake/rsbmalloc (Emscripten's toolchain file ignores CMAKE_PREFIX_PATH).
#
#   target_link_libraries(app PRIVATE rsbmalloc::rsbmalloc)   takes the place of malloc
#   target_link_libraries(app PRIVATE rsbmalloc::prefixed)    rsbmalloc() and its kin, beside the program's malloc
#
# Each further library librsbmallocc-NAME.a of the target that is compiled for is rsbmalloc::NAME.

get_filename_component(_rsbmalloc_package "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

# A project may have one of the languages, or say no more than the system. The triples are those of `rsbmalloc flags`.
set(_rsbmalloc_triples "${CMAKE_C_COMPILER_TARGET};${CMAKE_CXX_COMPILER_TARGET}")
if(EMSCRIPTEN OR _rsbmalloc_triples MATCHES "(^|;)wasm32(-unknown)?-emscripten(;|$)")
  set(_rsbmalloc_folder wasm32-emscripten)
elseif(_rsbmalloc_triples MATCHES "(^|;)wasm32(-unknown)?-(wasi|wasip1)-threads(;|$)")
  set(_rsbmalloc_folder wasm32-wasi-threads)
elseif(_rsbmalloc_triples MATCHES "(^|;)wasm32(-unknown-unknown|(-unknown)?-(wasi|wasip1))?(;|$)")
  set(_rsbmalloc_folder wasm32-wasi)
elseif(CMAKE_SYSTEM_NAME STREQUAL "WASI" AND _rsbmalloc_triples STREQUAL ";")
  set(_rsbmalloc_folder wasm32-wasi)
else()
  set(rsbmalloc_FOUND FALSE)
  set(rsbmalloc_NOT_FOUND_MESSAGE
      "rsbmalloc has no library for this target: configure with emcmake, or with a CMAKE_C_COMPILER_TARGET or CMAKE_CXX_COMPILER_TARGET of wasm32, wasm32-wasi, wasm32-wasip1, wasm32-wasi-threads or wasm32-wasip1-threads")
  return()
endif()
set(_rsbmalloc_libraries "${_rsbmalloc_package}/lib/${_rsbmalloc_folder}")

file(GLOB _rsbmalloc_files RELATIVE "${_rsbmalloc_libraries}" "${_rsbmalloc_libraries}/librsbmallocc*.a")
foreach(_rsbmalloc_file IN LISTS _rsbmalloc_files)
  string(REGEX REPLACE "^librsbmallocc-?(.*)\\.a$" "rsbmalloc::\\1" _rsbmalloc_target "${_rsbmalloc_file}")
  if(_rsbmalloc_target STREQUAL "rsbmalloc::")
    set(_rsbmalloc_target rsbmalloc::rsbmalloc)
  endif()
  if(NOT TARGET ${_rsbmalloc_target})
    add_library(${_rsbmalloc_target} STATIC IMPORTED)
    set_target_properties(${_rsbmalloc_target} PROPERTIES
      IMPORTED_LOCATION "${_rsbmalloc_libraries}/${_rsbmalloc_file}"
      INTERFACE_INCLUDE_DIRECTORIES "${_rsbmalloc_package}/include")
    if(_rsbmalloc_folder STREQUAL "wasm32-emscripten" AND NOT _rsbmalloc_target MATCHES "::prefixed")
      set_target_properties(${_rsbmalloc_target} PROPERTIES INTERFACE_LINK_OPTIONS "-sMALLOC=none")
    endif()
  endif()
endforeach()
