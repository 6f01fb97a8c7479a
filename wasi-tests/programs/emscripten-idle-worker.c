/* On a thread's worker, JavaScript calls malloc after the thread has ended. */
#include <emscripten.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic(void *) block;

static void *run(void *argument) {
  EM_ASM({ setTimeout(() => Atomics.store(HEAPU32, $0 >> 2, _malloc(500)), 100); }, &block);
  return argument;
}

int main(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, run, NULL);
  pthread_join(thread, NULL);
  for (int tries = 0; !block && tries < 200; tries++) usleep(20 * 1000);
  /* Below the program's data. */
  int clean = 1;
  for (volatile int *word = (int *)0; word < (int *)1024; word++) clean &= *word == 0;
  printf("%s, and %s at address 0\n", block ? "a block" : "no block", clean ? "nothing" : "something");
  return 0;
}
