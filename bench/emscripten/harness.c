// Linked to a program of bench/programs under Emscripten: its input, and what its malloc has taken.
#include <emscripten.h>
#include <stddef.h>
#include <unistd.h>

char input[8 << 20];
size_t input_length;

// Returns where the program expects its input, of this many bytes. Zeros follow it: a program runs once.
EMSCRIPTEN_KEEPALIVE char *place_input(size_t length) {
  input_length = length;
  return input;
}

// Bytes that malloc has taken from the system. They are never given back, so that this is the most there were.
EMSCRIPTEN_KEEPALIVE size_t heap_bytes(void) {
  extern char __heap_base;
  return (size_t)((char *)sbrk(0) - &__heap_base);
}
