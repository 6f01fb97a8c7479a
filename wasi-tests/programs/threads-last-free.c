/*
 * A thread's end as C libraries have it: once its destructors ran, the values of its keys, which are a block of their own,
 * are freed. Built with threads-cores.c, so that there are four caches.
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

/* Has the calling thread allocate, so that it gets a cache if there is one. */
EXPORT(allocate) void allocate(void) { rsbfree(rsbmalloc(24)); }

/* How often a thread was to have its end told. */
EXPORT(registrations) int registrations(void) { return registered; }

EXPORT(begin) void begin(void) { values = rsbcalloc(KEYS, sizeof *values); }

EXPORT(end) void end(void) { rsbfree(values); }
