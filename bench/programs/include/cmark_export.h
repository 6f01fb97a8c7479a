// What cmark's CMake build would write.
#pragma once
#define CMARK_EXPORT
