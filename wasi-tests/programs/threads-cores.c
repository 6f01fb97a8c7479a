/* Linked with a program, this tells the library for threads how many threads can run at once. */
extern const int rsbmalloc_cores;
const int rsbmalloc_cores = 1;
