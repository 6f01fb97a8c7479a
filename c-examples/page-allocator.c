/*
 * The page allocator alone: runs of whole 2 KiB pages, without bins. It is a good basis for a custom allocator: here an
 * arena, which allocates by moving a pointer and frees everything at once.
 *
 * Links with librsbmallocc or librsbmallocc-prefixed: both define these names.
 */
#include <rsbmallocc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { PAGE = 2048, CHUNK = 32 * PAGE };

/* Each chunk starts with the address of the previous one. */
struct chunk {
  struct chunk *previous;
};

struct arena {
  struct chunk *last;
  char *next;
  char *end;
};

/* Allocates up to CHUNK - 16 bytes, aligned to 16. Returns NULL for larger sizes or if memory runs out. */
static void *arena_alloc(struct arena *arena, size_t size) {
  size = (size + 15) & ~(size_t)15;
  if (size > CHUNK - 16) return NULL;
  if ((size_t)(arena->end - arena->next) < size) {
    struct chunk *chunk = rsbpage_alloc(CHUNK, PAGE);
    if (!chunk) return NULL;
    chunk->previous = arena->last;
    arena->last = chunk;
    arena->next = (char *)chunk + 16;
    arena->end = (char *)chunk + CHUNK;
  }
  void *block = arena->next;
  arena->next += size;
  return block;
}

static void arena_free(struct arena *arena) {
  for (struct chunk *chunk = arena->last; chunk;) {
    struct chunk *previous = chunk->previous;
    rsbpage_free(chunk);
    chunk = previous;
  }
  *arena = (struct arena){0};
}

struct node {
  struct node *left, *right;
  int depth;
};

static struct node *tree(struct arena *arena, int depth) {
  struct node *node = arena_alloc(arena, sizeof *node);
  if (!node) exit(EXIT_FAILURE);
  *node = (struct node){.depth = depth};
  if (depth > 0) {
    node->left = tree(arena, depth - 1);
    node->right = tree(arena, depth - 1);
  }
  return node;
}

static int nodes(const struct node *node) { return node ? 1 + nodes(node->left) + nodes(node->right) : 0; }

int main(void) {
  struct arena arena = {0};
  size_t before = rsbmallinfo().in_use;
  printf("a tree of %d nodes\n", nodes(tree(&arena, 15)));
  printf("the arena has %zu KiB\n", (rsbmallinfo().in_use - before) / 1024);
  arena_free(&arena);
  printf("then none: %zu bytes\n", rsbmallinfo().in_use - before);

  /* A run may be aligned to more than a page, and grows in place if the pages after it are free. */
  char *run = rsbpage_alloc(3 * PAGE, 16 * PAGE);
  if (!run) return EXIT_FAILURE;
  printf("aligned to 16 pages: %s\n", (uintptr_t)run % (16 * PAGE) == 0 ? "yes" : "no");
  run[0] = 'r';
  char *longer = rsbpage_realloc(run, 300 * PAGE);
  if (!longer) return EXIT_FAILURE;
  printf("300 pages, the contents kept: %s\n", longer[0] == 'r' ? "yes" : "no");
  rsbpage_free(longer);
  return EXIT_SUCCESS;
}
