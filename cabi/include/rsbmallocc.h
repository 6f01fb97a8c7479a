/*
 * rsbmallocc: the C interface of rsbmalloc, a binned malloc for WebAssembly.
 *
 * Link with -lrsbmallocc and the standard functions (malloc, free, ..., declared by <stdlib.h>) are rsbmalloc's too, each
 * the same function as the one declared here with the prefix rsb. Link with -lrsbmallocc-prefixed and only the names with
 * the prefix are defined: the program keeps its libc's malloc beside them. A block goes back to the heap it came from.
 *
 * Sizes and alignments are in bytes. Blocks of 1 to 4 bytes are aligned to 4, up to 15 bytes to 8, larger ones to 16.
 * Functions that return NULL on error set errno, in a program that has one: to ENOMEM when memory is out, when a product
 * overflows or a size is above PTRDIFF_MAX, to EINVAL for an alignment that they do not take.
 */
#ifndef RSBMALLOCC_H
#define RSBMALLOCC_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__has_attribute)
#define RSB_HAS_ATTRIBUTE(attribute) __has_attribute(attribute)
#else
#define RSB_HAS_ATTRIBUTE(attribute) 0
#endif

/* The result is a new block, which no other pointer points into. */
#if RSB_HAS_ATTRIBUTE(malloc)
#define RSB_MALLOC __attribute__((malloc))
#else
#define RSB_MALLOC
#endif

/* Which argument, or product of arguments, is the size of the result: in brackets, since macros of C89 take no lists. */
#if RSB_HAS_ATTRIBUTE(alloc_size)
#define RSB_ALLOC_SIZE(arguments) __attribute__((alloc_size arguments))
#else
#define RSB_ALLOC_SIZE(arguments)
#endif

/* Which argument is the alignment of the result. */
#if RSB_HAS_ATTRIBUTE(alloc_align)
#define RSB_ALLOC_ALIGN(argument) __attribute__((alloc_align(argument)))
#else
#define RSB_ALLOC_ALIGN(argument)
#endif

/* To ignore the result is to leak the block. */
#if RSB_HAS_ATTRIBUTE(warn_unused_result)
#define RSB_NODISCARD __attribute__((warn_unused_result))
#else
#define RSB_NODISCARD
#endif

/*
 * The functions of C.
 */

/* C17 7.22.3.4. The contents are indeterminate. A size of 0 gives a block of its own. */
void *rsbmalloc(size_t size) RSB_MALLOC RSB_ALLOC_SIZE((1)) RSB_NODISCARD;

/* C17 7.22.3.3. Ends a block. NULL is let pass. errno stays as it is. */
void rsbfree(void *block);

/* C17 7.22.3.2. A block of count * size zero bytes. */
void *rsbcalloc(size_t count, size_t size) RSB_MALLOC RSB_ALLOC_SIZE((1, 2)) RSB_NODISCARD;

/*
 * C17 7.22.3.5. Resizes a block, in place or by moving it: only the result is valid afterwards. On error the block is as
 * it was. NULL for a block makes this rsbmalloc; a size of 0 gives a block of its own, like rsbmalloc(0).
 */
void *rsbrealloc(void *block, size_t size) RSB_ALLOC_SIZE((2)) RSB_NODISCARD;

/* C17 7.22.3.1. The alignment is any power of two, the size need not be a multiple of it; else EINVAL. */
void *rsbaligned_alloc(size_t alignment, size_t size)
    RSB_MALLOC RSB_ALLOC_SIZE((2)) RSB_ALLOC_ALIGN(1) RSB_NODISCARD;

/* C23 7.24.3.4 and 7.24.3.5: free for blocks whose size, or alignment and size, the caller knows. */
void rsbfree_sized(void *block, size_t size);
void rsbfree_aligned_sized(void *block, size_t alignment, size_t size);

/*
 * Those of POSIX, and those that others have.
 */

/*
 * POSIX. Stores a block in *block and returns 0, or returns EINVAL (the alignment is no power of two, or no multiple of
 * sizeof(void *)) or ENOMEM and leaves *block alone. errno stays as it is.
 */
int rsbposix_memalign(void **block, size_t alignment, size_t size) RSB_NODISCARD;

/* POSIX 2024. rsbrealloc of count * size bytes; ENOMEM if that overflows. */
void *rsbreallocarray(void *block, size_t count, size_t size) RSB_ALLOC_SIZE((2, 3)) RSB_NODISCARD;

/* As rsbaligned_alloc. */
void *rsbmemalign(size_t alignment, size_t size) RSB_MALLOC RSB_ALLOC_SIZE((2)) RSB_ALLOC_ALIGN(1) RSB_NODISCARD;

/* A block aligned to the page, which in WebAssembly is 65,536 bytes. rsbpvalloc rounds the size up to whole pages. */
void *rsbvalloc(size_t size) RSB_MALLOC RSB_ALLOC_SIZE((1)) RSB_NODISCARD;
void *rsbpvalloc(size_t size) RSB_MALLOC RSB_NODISCARD;

/* GNU. The bytes that the block has room for, at least those asked for; all of them may be written. 0 for NULL. */
size_t rsbmalloc_usable_size(void *block);

/*
 * The page allocator alone: runs of whole pages of 2,048 bytes, next to which no bin is involved. A run is as long as
 * the size rounded up to whole pages, and at least one page.
 */

/* The alignment is any power of two; runs are aligned to the page in any case. The contents are indeterminate. */
void *rsbpage_alloc(size_t size, size_t alignment) RSB_MALLOC RSB_ALLOC_SIZE((1)) RSB_ALLOC_ALIGN(2) RSB_NODISCARD;

/* Resizes a run, in place or by moving it: aligned to the page then, no more. On error the run is as it was. */
void *rsbpage_realloc(void *run, size_t size) RSB_ALLOC_SIZE((2)) RSB_NODISCARD;

/* Ends a run. NULL is let pass. */
void rsbpage_free(void *run);

/*
 * What the heap holds.
 */

/* Room for the bins in struct rsbmallinfo. */
#define RSB_BINS 64

struct rsbmallinfo {
  size_t heap;      /* bytes of linear memory that the heap has, without its own bookkeeping */
  size_t in_use;    /* bytes of it in blocks that are in use, rounded up as the allocator does */
  size_t free;      /* bytes of it for further blocks */
  size_t peak;      /* the most bytes ever in pages that served blocks */
  size_t bin_count; /* the number of bins that follow, smallest slots first */
  struct {
    size_t slot_size;  /* bytes to a slot */
    size_t pages;      /* pages that the bin's slots fill */
    size_t slots_free; /* slots in them for further blocks */
  } bins[RSB_BINS];
};

/* Walks the whole heap: for reports, not for every allocation. */
struct rsbmallinfo rsbmallinfo(void);

/*
 * Bugs of the program. A hardened library traps when it finds one, in a function that is named for it
 * (rsbmalloc_double_free and the like); docs/hardened.md lists them.
 */

/*
 * Walks the whole heap and traps if a block was written past its end or before its start, or written to after free. In
 * libraries that are not hardened it only finds some pointers that were freed and should not have been.
 */
void rsbmalloc_check(void);

/*
 * A program may define this function: a hardened library calls it before it traps, with what it found, the pointer, and
 * the size that the block was allocated with, or 0. It must not allocate. It is not to be weak, for the library has a weak one.
 */
void rsbmalloc_on_fault(const char *message, void *pointer, size_t size);

/*
 * Threads: only in librsbmallocc-mt.a, librsbmallocc-locked.a and librsbmallocc-mt-hardened.a, of which the first alone has
 * caches. docs/threads.md tells more.
 */

/*
 * To be called by a thread that ends, after its last allocation, where there are no pthreads to tell the library: its
 * cache goes to another thread. A thread that goes on and allocates again gets a new one.
 */
void rsbmalloc_thread_end(void);

/*
 * A program without Emscripten may define this constant: how many threads the machine runs at once. There are four
 * caches to each; 4 is assumed.
 */
extern const int rsbmalloc_cores;

#ifdef __cplusplus
}
#endif

#endif
