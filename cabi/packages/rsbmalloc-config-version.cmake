# The version is package.json's; it serves who asks for one that is not newer and has the same major number.
file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/../../../package.json" _rsbmalloc_version REGEX "^  \"version\": ")
string(REGEX MATCH "([0-9]+)\\.[0-9]+\\.[0-9]+" PACKAGE_VERSION "${_rsbmalloc_version}")
if(PACKAGE_FIND_VERSION_MAJOR EQUAL CMAKE_MATCH_1 AND PACKAGE_FIND_VERSION VERSION_LESS_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
endif()
if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
  set(PACKAGE_VERSION_EXACT TRUE)
endif()
