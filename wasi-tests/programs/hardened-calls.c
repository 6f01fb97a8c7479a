/* A heap whose functions the tests call, without a C library except for errno. */
#include <rsbmallocc.h>

int errno;

/* The library for threads finds errno by this function, as in a libc for threads. */
__attribute__((export_name("__errno_location"))) int *__errno_location(void) { return &errno; }

__attribute__((export_name("in_use"))) size_t in_use(void) { return rsbmallinfo().in_use; }
