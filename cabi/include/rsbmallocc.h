/*
 * rsbmallocc: the C interface of rsbmalloc, a binned malloc for WebAssembly.
 *
 * With -lrsbmallocc, the standard functions (malloc, free, ..., declared by <stdlib.h>) are rsbmalloc's as well: each
 * is the same function as the one declared here with the prefix rsb. With -lrsbmallocc-prefixed, only the prefixed
 * names are defined, and the program keeps its libc's malloc beside them. Each block must be freed by the allocator it
 * came from.
 *
 * Sizes and alignments are in bytes. Blocks of 1 to 4 bytes are aligned to at least 4, up to 15 bytes to 8, larger ones
 * to 16. Functions that return NULL on error set errno, in a program that has one: to ENOMEM if memory is out, a
 * product overflows or a size exceeds PTRDIFF_MAX, and to EINVAL for an invalid alignment.
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

/* The function returns a new block, which no other pointer points into. */
#if RSB_HAS_ATTRIBUTE(malloc)
#define RSB_MALLOC __attribute__((malloc))
#else
#define RSB_MALLOC
#endif

/*
 * The size of the result is this argument, or the product of these two. They are in parentheses of their own, because
 * C89 has no variadic macros.
 */
#if RSB_HAS_ATTRIBUTE(alloc_size)
#define RSB_ALLOC_SIZE(arguments) __attribute__((alloc_size arguments))
#else
#define RSB_ALLOC_SIZE(arguments)
#endif

/* The result is aligned to the value of this argument. */
#if RSB_HAS_ATTRIBUTE(alloc_align)
#define RSB_ALLOC_ALIGN(argument) __attribute__((alloc_align(argument)))
#else
#define RSB_ALLOC_ALIGN(argument)
#endif

/* Ignoring the result would leak the block. */
#if RSB_HAS_ATTRIBUTE(warn_unused_result)
#define RSB_NODISCARD __attribute__((warn_unused_result))
#else
#define RSB_NODISCARD
#endif

/*
 * Standard C.
 */

/* C17 7.22.3.4. The contents are indeterminate. A size of 0 gives a block with a unique address. */
void *rsbmalloc(size_t size) RSB_MALLOC RSB_ALLOC_SIZE((1)) RSB_NODISCARD;

/* C17 7.22.3.3. Frees a block. Does nothing for NULL. Does not change errno. */
void rsbfree(void *block);

/* C17 7.22.3.2. Returns a block of count * size zero bytes. */
void *rsbcalloc(size_t count, size_t size) RSB_MALLOC RSB_ALLOC_SIZE((1, 2)) RSB_NODISCARD;

/*
 * C17 7.22.3.5. Resizes a block, in place or by moving it. Returns the resized block; the old pointer is no longer
 * valid. On error the block is unchanged. For NULL it does what rsbmalloc does. A size of 0 gives a block, as in
 * rsbmalloc(0).
 */
void *rsbrealloc(void *block, size_t size) RSB_ALLOC_SIZE((2)) RSB_NODISCARD;

/* C17 7.22.3.1. Any power of two is a valid alignment. The size need not be a multiple of it. */
void *rsbaligned_alloc(size_t alignment, size_t size)
    RSB_MALLOC RSB_ALLOC_SIZE((2)) RSB_ALLOC_ALIGN(1) RSB_NODISCARD;

/*
 * C23 7.24.3.4 and 7.24.3.5. Free a block that was requested with this size, or with this alignment and size. A
 * hardened library traps if they are wrong; others ignore them.
 */
void rsbfree_sized(void *block, size_t size);
void rsbfree_aligned_sized(void *block, size_t alignment, size_t size);

/*
 * POSIX and common extensions.
 */

/*
 * POSIX. Stores the address of a new block in *block and returns 0. On error it leaves *block alone and returns EINVAL
 * (the alignment is not a power of two, or not a multiple of sizeof(void *)) or ENOMEM. Does not change errno.
 */
int rsbposix_memalign(void **block, size_t alignment, size_t size) RSB_NODISCARD;

/* POSIX 2024. Like rsbrealloc with a size of count * size; ENOMEM if that overflows. */
void *rsbreallocarray(void *block, size_t count, size_t size) RSB_ALLOC_SIZE((2, 3)) RSB_NODISCARD;

/* Same as rsbaligned_alloc. */
void *rsbmemalign(size_t alignment, size_t size) RSB_MALLOC RSB_ALLOC_SIZE((2)) RSB_ALLOC_ALIGN(1) RSB_NODISCARD;

/*
 * Return a block aligned to the page size, which in WebAssembly is 65,536 bytes. rsbpvalloc also rounds the size up to
 * whole pages.
 */
void *rsbvalloc(size_t size) RSB_MALLOC RSB_ALLOC_SIZE((1)) RSB_NODISCARD;
void *rsbpvalloc(size_t size) RSB_MALLOC RSB_NODISCARD;

/*
 * GNU. Returns the usable size of a block: at least the size requested, and all of it may be written. Returns 0 for
 * NULL.
 */
size_t rsbmalloc_usable_size(void *block);

/*
 * The page allocator alone, without bins. It returns runs of whole pages of 2,048 bytes: as many as the size needs, and
 * at least one.
 */

/*
 * Returns a run. Any power of two is a valid alignment; a run is aligned to at least 2,048 bytes. The contents are
 * indeterminate.
 */
void *rsbpage_alloc(size_t size, size_t alignment) RSB_MALLOC RSB_ALLOC_SIZE((1)) RSB_ALLOC_ALIGN(2) RSB_NODISCARD;

/*
 * Resizes a run, in place or by moving it. Only an alignment to 2,048 bytes is guaranteed for the result, whatever that
 * of the run was. On error the run is unchanged.
 */
void *rsbpage_realloc(void *run, size_t size) RSB_ALLOC_SIZE((2)) RSB_NODISCARD;

/* Frees a run. Does nothing for NULL. */
void rsbpage_free(void *run);

/*
 * Statistics.
 */

/* The maximum number of bins in struct rsbmallinfo. */
#define RSB_BINS 64

struct rsbmallinfo {
  size_t heap;      /* bytes of linear memory in the heap, without the allocator's own data */
  size_t in_use;    /* bytes of these in blocks that are in use, their sizes rounded up as the allocator does */
  size_t free;      /* the rest of these: free for further blocks, or left over after the last slot of a run */
  size_t peak;      /* the high-water mark of the bytes in pages that hold blocks */
  size_t bin_count; /* number of bins that follow, in increasing order of slot size */
  struct {
    size_t slot_size;  /* bytes per slot */
    size_t pages;      /* pages of 2,048 bytes that hold the bin's slots */
    size_t slots_free; /* free slots in these pages */
  } bins[RSB_BINS];
};

/* Walks the whole heap: meant for reports, not to be called with every allocation. */
struct rsbmallinfo rsbmallinfo(void);

/*
 * Bugs in the program. When a hardened library finds one, it traps in a function named for it (rsbmalloc_double_free
 * and others: see docs/hardened.md).
 */

/*
 * Walks the whole heap and traps if there was a write past the end of a block, before its start, or after it was freed.
 * In libraries that are not hardened, it only detects some invalid pointers that were freed.
 */
void rsbmalloc_check(void);

/*
 * A program may define this function. A hardened library calls it before it traps, with a message that names the bug,
 * the pointer, and the size that the block was requested with, or 0 if that is not known. The function must not
 * allocate. Its definition must not be weak, since the library has a weak one.
 */
void rsbmalloc_on_fault(const char *message, void *pointer, size_t size);

/*
 * Threads: librsbmallocc-mt.a, librsbmallocc-locked.a and librsbmallocc-mt-hardened.a; only the first of these has
 * thread caches. See docs/threads.md.
 */

/*
 * A thread should call this after its last allocation, if the program has no pthreads that tell the library when a
 * thread ends: its cache then goes to another thread. A thread that allocates again after all gets another cache.
 * Where there can be no threads, it does nothing.
 */
#ifdef __wasm_atomics__
void rsbmalloc_thread_end(void);
#else
#define rsbmalloc_thread_end() ((void)0)
#endif

/*
 * A program that is not for Emscripten may define this constant: how many threads the machine can run at once. The
 * default is 4. There are at most four thread caches for each.
 */
extern const int rsbmalloc_cores;

#ifdef __cplusplus
}
#endif

#endif
