/* A heap for the tests to call, without a C library; what it has of one is errno. */
#include <rsbmallocc.h>

int errno;

/* As libc for threads has it, which is where the library for threads looks. */
__attribute__((export_name("__errno_location"))) int *__errno_location(void) { return &errno; }

__attribute__((export_name("in_use"))) size_t in_use(void) { return rsbmallinfo().in_use; }
