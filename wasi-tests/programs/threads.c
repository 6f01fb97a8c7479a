/*
 * What threads do to a heap, without a C library: a module on shared memory whose exports the tests call from workers. The
 * host gives each thread a stack. Built with -DWASI_THREADS it is a wasi-threads program, too.
 */
#include <rsbmallocc.h>

typedef unsigned u32;
enum { SHARED = 256, OWN = 64, QUEUE = 1024 };

#define EXPORT(name) __attribute__((export_name(#name)))

/* Every block that is made here has its size in its first word, and a pattern in the others. */
typedef struct Block {
  u32 size;
  u32 words[];
} Block;

static _Atomic(Block *) shared[SHARED];
static _Atomic(Block *) queue[QUEUE];

/* xorshift32 */
static u32 next(u32 *random) {
  *random ^= *random << 13;
  *random ^= *random >> 17;
  return *random ^= *random << 5;
}

static u32 any_size(u32 *random) {
  u32 kind = next(random) % 100;
  u32 most = kind < 70 ? 256 : kind < 95 ? 8192 : kind < 99 ? 40000 : 300000;
  return 4 + next(random) % most;
}

/* The words that are looked at: all in small blocks, some in others. */
static u32 step(u32 size) { return size > 4096 ? 61 : 1; }

static u32 pattern(const Block *block, u32 at) { return (u32)(__SIZE_TYPE__)block ^ block->size ^ at; }

static Block *fill(Block *block, u32 size) {
  if (!block) return 0;
  block->size = size;
  for (u32 at = 0; 4 * at + 8 <= size; at += step(size)) block->words[at] = pattern(block, at);
  return block;
}

static void fail(int line) {
  static _Atomic int failed_line;
  failed_line = line;
  __builtin_trap();
}
#define check(holds) ((holds) ? (void)0 : fail(__LINE__))

static void check_block(const Block *block) {
  for (u32 at = 0; 4 * at + 8 <= block->size; at += step(block->size)) check(block->words[at] == pattern(block, at));
  check(rsbmalloc_usable_size((void *)block) >= block->size);
}

static void release(Block *block) {
  if (!block) return;
  check_block(block);
  rsbfree(block);
}

static Block *make(u32 size) { return fill(rsbmalloc(size), size); }

static Block *make_zeroed(u32 size) {
  unsigned char *bytes = rsbcalloc(1, size);
  if (!bytes) return 0;
  for (u32 i = 0; i < size; i++) check(bytes[i] == 0);
  return fill((Block *)bytes, size);
}

static Block *make_aligned(u32 alignment, u32 size) {
  void *block = rsbaligned_alloc(alignment, size);
  check(((__SIZE_TYPE__)block & (alignment - 1)) == 0);
  return fill(block, size);
}

static Block *resize(Block *block, u32 size) {
  u32 old = block ? block->size : 0;
  Block *moved = rsbrealloc(block, size);
  if (!moved) return block;
  u32 kept = old < size ? old : size;
  for (u32 at = 0; block && 4 * at + 8 <= kept; at += step(old))
    check(moved->words[at] == ((u32)(__SIZE_TYPE__)block ^ old ^ at));
  return fill(moved, size);
}

/* Random calls. Blocks pass from thread to thread through cells that all of them swap with. Returns how many failed. */
EXPORT(stress) int stress(u32 seed, int calls) {
  u32 random = seed * 2654435761u + 1;
  Block *own[OWN] = {0};
  int failed = 0;
  for (int i = 0; i < calls; i++) {
    Block **cell = &own[next(&random) % OWN];
    u32 size = any_size(&random);
    switch (next(&random) % 8) {
      case 0:
      case 1:
      case 2:
        release(*cell);
        *cell = make(size);
        break;
      case 3:
        release(*cell);
        *cell = make_zeroed(size);
        break;
      case 4:
        release(*cell);
        *cell = make_aligned(16u << next(&random) % 9, size);
        break;
      case 5:
        *cell = resize(*cell, size);
        break;
      default:
        release(__c11_atomic_exchange(&shared[next(&random) % SHARED], *cell, __ATOMIC_SEQ_CST));
        *cell = 0;
        continue;
    }
    failed += !*cell;
  }
  for (int i = 0; i < OWN; i++) release(own[i]);
  return failed;
}

/* Frees what `stress` left for others. */
EXPORT(drain) void drain(void) {
  for (int i = 0; i < SHARED; i++) release(__c11_atomic_exchange(&shared[i], 0, __ATOMIC_SEQ_CST));
}

/*
 * Waits for another value. Not inlined: in Node 20, V8's baseline code for the instruction spoils local variables of its
 * function.
 */
__attribute__((noinline)) static void wait(volatile void *word, int value, long long nanoseconds) {
  __builtin_wasm_memory_atomic_wait32((int *)word, value, nanoseconds);
}

/* One thread calls produce, another consume: every block is freed by a thread that never allocates. */
EXPORT(produce) void produce(u32 seed, int blocks) {
  u32 random = seed * 2654435761u + 1;
  for (int i = 0; i < blocks; i++) {
    Block *block = make(4 + next(&random) % 2000), *none = 0;
    check(block != 0);
    while (!__c11_atomic_compare_exchange_strong(&queue[i % QUEUE], &none, block, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
      wait(&queue[i % QUEUE], (int)none, 100000);
      none = 0;
    }
  }
}

EXPORT(consume) void consume(int blocks) {
  for (int i = 0; i < blocks; i++) {
    Block *block;
    while (!(block = __c11_atomic_exchange(&queue[i % QUEUE], 0, __ATOMIC_SEQ_CST)))
      wait(&queue[i % QUEUE], 0, 100000);
    __builtin_wasm_memory_atomic_notify((int *)&queue[i % QUEUE], 1);
    release(block);
  }
}

/* What a short-lived thread does: some blocks, all freed. */
EXPORT(visit) void visit(u32 seed) {
  u32 random = seed * 2654435761u + 1;
  Block *own[OWN];
  for (int i = 0; i < OWN; i++) check((own[i] = make(4 + next(&random) % 1000)) != 0);
  for (int i = 0; i < OWN; i++) release(own[i]);
}

/* Takes all memory there is, in blocks of `size` bytes, and gives it back. Returns the number of blocks. */
EXPORT(exhaust) int exhaust(u32 size) {
  Block *list = 0;
  int count = 0;
  for (Block *block; (block = rsbmalloc(size)) != 0; count++) {
    block->size = (u32)(__SIZE_TYPE__)list;
    list = block;
  }
  while (list) {
    Block *following = (Block *)(__SIZE_TYPE__)list->size;
    rsbfree(list);
    list = following;
  }
  return count;
}

#ifdef WASI_THREADS
/* As much of a thread library as the allocator looks for, with the semantics of POSIX's. */
static void (*destructors[8])(void *);
static _Atomic int keys;
static _Thread_local void *values[8];
static _Thread_local int error;

int pthread_key_create(u32 *key, void (*destructor)(void *)) {
  *key = keys++;
  destructors[*key] = destructor;
  return 0;
}

int pthread_setspecific(u32 key, const void *value) {
  values[key] = (void *)value;
  return 0;
}

int *__errno_location(void) { return &error; }

static _Atomic int waits;
void __wait(volatile int *address, volatile int *waiters, int value, int private) {
  (void)waiters, (void)private;
  waits++;
  while (*address == value) wait(address, value, -1);
}

/* The convention: the module imports wasi.thread-spawn, and the host calls wasi_thread_start in a new instance. */
__attribute__((import_module("wasi"), import_name("thread-spawn"))) int thread_spawn(void *argument);

enum { STACK = 65536, MOST_THREADS = 16 };

typedef struct Start {
  void *stack, *tls;
  u32 seed;
  int calls, failed;
  _Atomic int done;
} Start;

void __wasm_init_tls(void *);

static void end_thread(void) {
  for (int key = 0; key < keys; key++) {
    void *value = values[key];
    values[key] = 0;
    if (value) destructors[key](value);
  }
}

__attribute__((noinline)) static void run(Start *start) {
  start->failed = stress(start->seed, start->calls);
  error = 0;
  check(!rsbmalloc(0xffffffffu));
  check(error == 48);
  end_thread();
  start->done = 1;
  __builtin_wasm_memory_atomic_notify((int *)&start->done, 1);
}

EXPORT(wasi_thread_start) void wasi_thread_start(int id, Start *start) {
  check(id > 0);
  __asm__ volatile(".globaltype __stack_pointer, i32\nlocal.get %0\nglobal.set __stack_pointer" ::"r"((char *)start->stack + STACK));
  __wasm_init_tls(start->tls);
  run(start);
}

/* Starts threads, waits for their ends. Returns how many calls failed; how often a thread waited is left at *waited. */
EXPORT(spawn_all) int spawn_all(int count, int calls, int *waited) {
  Start *starts[MOST_THREADS];
  int failed = 0;
  for (int i = 0; i < count; i++) {
    Start *start = starts[i] = rsbcalloc(1, sizeof(Start));
    start->stack = rsbaligned_alloc(16, STACK);
    start->tls = rsbaligned_alloc(16, __builtin_wasm_tls_size());
    start->seed = i + 1;
    start->calls = calls;
    check(thread_spawn(start) > 0);
  }
  for (int i = 0; i < count; i++) {
    while (!starts[i]->done) wait(&starts[i]->done, 0, -1);
    failed += starts[i]->failed;
    rsbfree(starts[i]->stack);
    rsbfree(starts[i]->tls);
    rsbfree(starts[i]);
  }
  drain();
  end_thread();
  *waited = waits;
  return failed;
}
#endif
