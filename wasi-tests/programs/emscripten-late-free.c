// Keeps what is freed until the next is, since munmap reads what it has freed: see docs/emscripten.md.
#include <rsbmallocc.h>

void emscripten_builtin_free(void *block) {
  static _Thread_local void *last;
  rsbfree(last);
  last = block;
}
