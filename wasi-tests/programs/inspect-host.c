// Exits with 0 if the file that its argument names contains the value of the environment variable WORD, or "word"
// without one.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
  char text[32] = "";
  FILE *file = argc > 1 ? fopen(argv[1], "r") : NULL;
  if (!file || !fgets(text, sizeof text, file)) return 1;
  const char *word = getenv("WORD");
  return strcmp(text, word ? word : "word") ? 2 : 0;
}
