// Has one bug for each sanitizer: a write past the end of a block, and a block to which nothing points any more.
#include <stdlib.h>

int main(int argc, char **argv) {
  char *volatile block = malloc(10);
  block[argc + 10] = 1;
  block = NULL;
}
