// Linked with programs of bench/programs under Emscripten: provides their input, and tells how much malloc has taken.
#include <emscripten.h>
#include <stddef.h>
#include <unistd.h>

char input[8 << 20];
size_t input_length;

// Returns where to put an input of `length` bytes. It is followed by zeros, because an instance runs only once.
EMSCRIPTEN_KEEPALIVE char *place_input(size_t length) {
  input_length = length;
  return input;
}

// Returns the number of bytes that malloc has taken from the system. It returns none, so this is the peak.
EMSCRIPTEN_KEEPALIVE size_t heap_bytes(void) {
  extern char __heap_base;
  return (size_t)((char *)sbrk(0) - &__heap_base);
}
