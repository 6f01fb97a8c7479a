// mimalloc in one object, with the standard names, as its own CMake build makes it for WASI.
#define MI_MALLOC_OVERRIDE 1
#include "static.c"

// The one standard name that it leaves out there.
#undef aligned_alloc
void *aligned_alloc(size_t alignment, size_t size) { return mi_aligned_alloc(alignment, size); }
