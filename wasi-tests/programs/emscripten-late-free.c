// Delays each free until the next one, because Emscripten's munmap reads a block that it has freed: docs/emscripten.md.
#include <rsbmallocc.h>

void emscripten_builtin_free(void *block) {
  static _Thread_local void *last;
  rsbfree(last);
  last = block;
}
