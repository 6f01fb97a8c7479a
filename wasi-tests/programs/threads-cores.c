/* Linked to a program, this tells the library for threads how many threads run at once. */
extern const int rsbmalloc_cores;
const int rsbmalloc_cores = 1;
