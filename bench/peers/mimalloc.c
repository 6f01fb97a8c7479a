// mimalloc in one object, with the standard names, as its own CMake build makes it for WASI.
#define MI_MALLOC_OVERRIDE 1
#include "static.c"
