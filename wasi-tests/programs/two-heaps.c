/* A reactor with libc's malloc and, under its prefixed names, rsbmalloc. The test calls what the linker exports. */
#include <errno.h>

int *errno_address(void) { return &errno; }
