// Emscripten's emmalloc, compiled for WASI, with stand-ins for the few things that it needs of Emscripten.
#include <stddef.h>
#include <stdint.h>

// The alignment of max_align_t is 8 under Emscripten and 16 under WASI; emmalloc insists on 8.
#define max_align_t double
#define MAIN_THREAD_ASYNC_EM_ASM(...) ((void)0)
#define EM_ASM(...) ((void)0)
#define emscripten_get_heap_size() ((size_t)__builtin_wasm_memory_size(0) << 16)
#define emscripten_get_heap_max() ((size_t)0xffff0000u)
struct mallinfo {
  int arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};

#include EMMALLOC_SOURCE

extern char __heap_base;

// Like Emscripten's sbrk, this accepts any number of bytes. It grows memory by no more than necessary.
void *sbrk(intptr_t increment) {
  static uintptr_t brk;
  if (!brk) brk = (uintptr_t)&__heap_base;
  uintptr_t old = brk, end = old + increment, memory = __builtin_wasm_memory_size(0) << 16;
  if (increment > 0 && end < old) return (void *)-1;
  if (end > memory && __builtin_wasm_memory_grow(0, (end - memory + 0xffff) >> 16) == (size_t)-1) return (void *)-1;
  brk = end;
  return (void *)old;
}
