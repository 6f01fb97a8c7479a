/*
 * Ends a thread like some C libraries: after the thread's destructors have run, the array of its keys' values is freed,
 * which is itself a block. Built with threads-cores.c, so that there are four caches.
 */
#include <rsbmallocc.h>

#define EXPORT(name) __attribute__((export_name(#name)))

enum { KEYS = 128 };

static void *early[KEYS];
static void **values = early;
static int registered;

int pthread_key_create(unsigned *key, void (*destructor)(void *)) {
  (void)destructor;
  *key = 0;
  return 0;
}

int pthread_setspecific(unsigned key, const void *value) {
  values[key] = (void *)value;
  registered++;
  return 0;
}

/* Allocates, so that the calling thread gets a cache if there is a spare one. */
EXPORT(allocate) void allocate(void) { rsbfree(rsbmalloc(24)); }

/* How often the library set a value whose destructor would report a thread's end. */
EXPORT(registrations) int registrations(void) { return registered; }

EXPORT(begin) void begin(void) { values = rsbcalloc(KEYS, sizeof *values); }

EXPORT(end) void end(void) { rsbfree(values); }
