/*
 * What the tests' threads do with a heap. This is a module on shared memory, without a C library; the tests call its
 * exports from workers, and give each thread a stack. With -DWASI_THREADS it is also a wasi-threads program.
 */
#include <rsbmallocc.h>

typedef unsigned u32;
enum { SHARED = 256, OWN = 64, QUEUES = 8, QUEUE = 1024, OTHERS = 64, WASM_PAGE = 65536 };

#define EXPORT(name) __attribute__((export_name(#name)))

/* Every block allocated here has its size in its first word, and a pattern in the others. */
typedef struct Block {
  u32 size;
  u32 words[];
} Block;

static _Atomic(Block *) shared[SHARED];
static _Atomic(Block *) queues[QUEUES][QUEUE];
static _Atomic int stopped;

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

/* The distance between the words that have the pattern: all words in small blocks, some in others. */
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

/*
 * Makes random calls. Threads pass blocks to each other through shared cells, with which they exchange theirs. Returns
 * how many calls failed.
 */
EXPORT(stress) int stress(u32 seed, int calls) {
  u32 random = seed * 2654435761u + 1;
  Block *own[OWN] = {0};
  int failed = 0;
  for (int i = 0; i < calls; i++) {
    Block **cell = &own[next(&random) % OWN];
    u32 size = any_size(&random);
    switch (next(&random) % 9) {
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
      case 6:
        /* Keeps the block that was in the shared cell: this thread may resize it. */
        *cell = __c11_atomic_exchange(&shared[next(&random) % SHARED], *cell, __ATOMIC_SEQ_CST);
        continue;
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

/*
 * Waits until the word has another value. Not inlined: in Node 20, the code that V8's baseline compiler makes of the
 * instruction corrupts local variables of the function that contains it.
 */
__attribute__((noinline)) static void wait(volatile void *word, int value, long long nanoseconds) {
  __builtin_wasm_memory_atomic_wait32((int *)word, value, nanoseconds);
}

/* `meet` waits until all threads of a test have arrived, so that they begin at once. The host reads how many have. */
static _Atomic int arrived;
EXPORT(arrivals) int arrivals(void) { return arrived; }
EXPORT(arrive) void arrive(void) { arrived++; }

static void meet(int threads) {
  arrived++;
  for (int now; (now = arrived) < threads;) wait(&arrived, now, 1000000);
}

/* Makes random calls until `stop` is called. From time to time the thread reports its end, and then goes on. */
EXPORT(churn) int churn(u32 seed, int threads) {
  int failed = 0;
  meet(threads);
  for (u32 i = 0; !stopped; i++) {
    failed += stress(seed + 1000003 * i, 1000);
    if (i % 8 == 7) rsbmalloc_thread_end();
  }
  return failed;
}

EXPORT(stop) void stop(void) { stopped = 1; }

/* Calls malloc and free once, waits for `stop`, and calls them `calls` times. Returns how many of those succeeded. */
EXPORT(at_stop) int at_stop(u32 size, int calls, int threads) {
  int made = 0;
  rsbfree(rsbmalloc(size));
  meet(threads);
  while (!stopped) wait(&stopped, 0, 1000000);
  for (int i = 0; i < calls; i++) {
    void *block = rsbmalloc(size);
    made += block != 0;
    rsbfree(block);
  }
  return made;
}

/* Frees the blocks that `stress` left in the shared cells. */
EXPORT(drain) void drain(void) {
  for (int i = 0; i < SHARED; i++) release(__c11_atomic_exchange(&shared[i], 0, __ATOMIC_SEQ_CST));
}

static void put(_Atomic(Block *) *cell, Block *block) {
  Block *none = 0;
  while (!__c11_atomic_compare_exchange_strong(cell, &none, block, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    wait((int *)cell, (int)none, 100000);
    none = 0;
  }
}

static Block *take(_Atomic(Block *) *cell) {
  Block *block;
  while (!(block = __c11_atomic_exchange(cell, 0, __ATOMIC_SEQ_CST))) wait((int *)cell, 0, 100000);
  __builtin_wasm_memory_atomic_notify((int *)cell, 1);
  return block;
}

/* One thread calls `produce` and others `consume`, so that every block is freed by a thread that never allocates. */
EXPORT(produce) void produce(int queue, u32 seed, int blocks, u32 most) {
  u32 random = seed * 2654435761u + 1;
  for (int i = 0; i < blocks; i++) {
    Block *block = make(4 + next(&random) % most);
    check(block != 0);
    put(&queues[queue][i % QUEUE], block);
  }
}

/* Takes and frees every `step`th of the blocks, starting with number `first`. */
EXPORT(consume) void consume(int queue, int blocks, int first, int step) {
  for (int i = first; i < blocks; i += step) release(take(&queues[queue][i % QUEUE]));
}

/* A thread in a ring: passes blocks to the next thread, and frees those it gets, some of them after resizing. */
EXPORT(pass) void pass(int from, int to, u32 seed, int blocks) {
  u32 random = seed * 2654435761u + 1;
  for (int i = 0; i < blocks; i++) {
    Block *block = make(4 + next(&random) % 2000);
    check(block != 0);
    put(&queues[to][i % QUEUE], block);
    /* Each queue stays half full. */
    if (i < QUEUE / 2) continue;
    block = take(&queues[from][(i - QUEUE / 2) % QUEUE]);
    if (i % 4 == 0) block = resize(block, 4 + next(&random) % 2000);
    release(block);
  }
  for (int i = blocks < QUEUE / 2 ? 0 : blocks - QUEUE / 2; i < blocks; i++) release(take(&queues[from][i % QUEUE]));
}

/* Grows memory beside the heap, one wasm page at a time, and writes to it. Returns the number of pages. */
static u32 others[OTHERS];
static int other_count;

EXPORT(grow_beside) int grow_beside(int most, int threads) {
  meet(threads);
  while (!stopped && other_count < most && other_count < OTHERS) {
    int page = __builtin_wasm_memory_grow(0, 1);
    if (page == -1) break;
    volatile u32 *words = (u32 *)((u32)page * WASM_PAGE);
    for (u32 at = 0; at < WASM_PAGE / 4; at++) words[at] = page ^ at;
    others[other_count++] = page;
    /* Waits until the heap has grown memory too, but not for long. */
    for (int i = 0; i < 1000000 && __builtin_wasm_memory_size(0) == page + 1; i++) continue;
  }
  return other_count;
}

/* Returns the address of such a page, after checking that its contents are unchanged. */
EXPORT(page_beside) u32 page_beside(int number) {
  volatile u32 *words = (u32 *)(others[number] * WASM_PAGE);
  for (u32 at = 0; at < WASM_PAGE / 4; at++) check(words[at] == (others[number] ^ at));
  return others[number] * WASM_PAGE;
}

/* Allocates blocks of `size` bytes and shows them to the threads that watch. Returns their number. */
EXPORT(show) int show(u32 size) {
  for (int i = 0; i < SHARED; i++) {
    Block *block = rsbmalloc(size);
    if (!block) return i;
    block->size = size;
    shared[i] = block;
  }
  return SHARED;
}

/* Checks the usable size of the blocks that are shown, again and again, until `stop` is called. */
EXPORT(watch) void watch(int threads) {
  meet(threads);
  while (!stopped) {
    for (int i = 0; i < SHARED && shared[i]; i++) {
      u32 usable = rsbmalloc_usable_size(shared[i]), size = shared[i]->size;
      check(usable >= size && usable - size < 4096);
    }
  }
}

EXPORT(hide) void hide(void) {
  for (int i = 0; i < SHARED; i++) rsbfree(__c11_atomic_exchange(&shared[i], 0, __ATOMIC_SEQ_CST));
}

/* What a short-lived thread does: allocates some blocks and frees them. */
EXPORT(visit) void visit(u32 seed) {
  u32 random = seed * 2654435761u + 1;
  Block *own[OWN];
  for (int i = 0; i < OWN; i++) check((own[i] = make(4 + next(&random) % 1000)) != 0);
  for (int i = 0; i < OWN; i++) release(own[i]);
}

/* Allocates blocks of `size` bytes until memory is out, and frees them. Returns their number. */
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

EXPORT(in_use) u32 in_use(void) { return rsbmallinfo().in_use; }

#ifdef WASI_THREADS
/* The functions of a thread library that the allocator uses. They behave as in POSIX. */
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

void __wait(volatile int *address, volatile int *waiters, int value, int private) {
  (void)waiters, (void)private;
  while (*address == value) wait(address, value, -1);
}

/* In wasi-threads, the module imports wasi.thread-spawn, and the host calls wasi_thread_start in a new instance. */
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

/* Starts threads and waits for their ends. Returns how many calls failed. */
EXPORT(spawn_all) int spawn_all(int count, int calls) {
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
  return failed;
}
#endif
