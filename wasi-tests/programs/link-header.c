/* Includes only the header. The test compiles this in every dialect that the header supports. */
#include <rsbmallocc.h>

typedef char bins_fit[sizeof(((struct rsbmallinfo *)0)->bins) / sizeof(((struct rsbmallinfo *)0)->bins[0]) == RSB_BINS ? 1 : -1];

void *use(bins_fit *fit);
void *use(bins_fit *fit) { return fit ? rsbmalloc(sizeof *fit) : 0; }

void end(void);
void end(void) { rsbmalloc_thread_end(); }

#ifdef IGNORE_RESULT
void ignore(void);
void ignore(void) { rsbmalloc(1); }
#endif
