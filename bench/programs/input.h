// Reads all of standard input into static memory, so that the input itself takes no allocation.
#pragma once
#include <stddef.h>
#include <unistd.h>

#ifdef __EMSCRIPTEN__
// JavaScript has put the input there already: see bench/emscripten/harness.c.
extern char input[];
extern size_t input_length;

static inline size_t read_input(void) { return input_length; }
#else
static char input[8 << 20];

static inline size_t read_input(void) {
  size_t length = 0;
  for (ssize_t n; length < sizeof input - 1 && (n = read(0, input + length, sizeof input - 1 - length)) > 0;)
    length += n;
  input[length] = 0;
  return length;
}
#endif
