// mimalloc as one object with the standard names, as its CMake build makes it for WASI.
#define MI_MALLOC_OVERRIDE 1
#include "static.c"

// The one standard name that it leaves out for WASI.
#undef aligned_alloc
void *aligned_alloc(size_t alignment, size_t size) { return mi_aligned_alloc(alignment, size); }

#if MI_SECURE
// Without a handler, it goes on after most errors that it finds.
static void end(int error, void *argument) {
  (void)error, (void)argument;
  __builtin_trap();
}

__attribute__((constructor)) static void end_on_error(void) { mi_register_error(end, 0); }
#endif
