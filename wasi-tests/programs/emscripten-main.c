// A main module that exchanges blocks with a side module. With an argument, the side module frees a block twice.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 300 };

void rsbmalloc_on_fault(const char *message, void *pointer, size_t size) {
  puts(message);
}

int main(int argc, char **argv) {
  void *side = dlopen("side.wasm", RTLD_NOW);
  if (!side) {
    puts(dlerror());
    return 1;
  }
  char *(*make_block)(int, char) = (char *(*)(int, char))dlsym(side, "make_block");
  int (*free_sum)(char *, int) = (int (*)(char *, int))dlsym(side, "free_sum");
  char *blocks[BLOCKS];
  for (int i = 0; i < BLOCKS; i++) {
    int size = 2 + i * i;
    if (i % 2 == 0) {
      blocks[i] = make_block(size, 1);
    } else {
      blocks[i] = malloc(size);
      memset(blocks[i], 1, size);
    }
  }
  int sum = 0;
  for (int i = 0; i < BLOCKS; i++) {
    if (i % 3 == 0) {
      sum += free_sum(blocks[i], 2 + i * i);
    } else {
      sum += (int)strnlen(blocks[i], 2 + i * i);
      free(blocks[i]);
    }
  }
  printf("%d bytes\n", sum);
  if (argc > 1) ((void (*)(void))dlsym(side, "free_twice"))();
  return 0;
}
