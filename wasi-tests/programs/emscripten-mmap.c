// Maps and unmaps memory repeatedly.
#include <stdio.h>
#include <sys/mman.h>

int main(void) {
  int failed = 0;
  for (int i = 0; i < 3; i++) {
    char *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory[i] = 1;
    failed |= munmap(memory, 65536);
  }
  printf("mmap %s\n", failed ? "fails" : "ok");
}
