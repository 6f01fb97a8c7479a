// One bug for each of clang's sanitizers: a write past the end of a block, and a block that nothing points to any more.
#include <stdlib.h>

int main(int argc, char **argv) {
  char *volatile block = malloc(10);
  block[argc + 10] = 1;
  block = NULL;
}
