/* A reactor with libc's malloc and, by its prefixed names, rsbmalloc: the test calls what the linker exports. */
#include <errno.h>

int *errno_address(void) { return &errno; }
