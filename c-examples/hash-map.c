/*
 * A hash map that counts words: many small blocks of different sizes (the words), and one table that is repeatedly
 * replaced by a larger one.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
  char *word; /* NULL if the entry is empty */
  int count;
};

struct map {
  struct entry *entries;
  size_t capacity; /* a power of two */
  size_t count;
};

/* FNV-1a. */
static uint32_t hash(const char *word) {
  uint32_t value = 2166136261u;
  for (; *word; word++) value = (value ^ (unsigned char)*word) * 16777619u;
  return value;
}

/* Returns the word's entry, or the empty one where it belongs. */
static struct entry *find(const struct map *map, const char *word) {
  for (size_t i = hash(word);; i++) {
    struct entry *entry = &map->entries[i & (map->capacity - 1)];
    if (!entry->word || strcmp(entry->word, word) == 0) return entry;
  }
}

/* Doubles the table. calloc makes its entries empty. Returns 0 on success, or -1 if memory runs out. */
static int grow(struct map *map) {
  struct map larger = {.capacity = map->capacity ? map->capacity * 2 : 16, .count = map->count};
  larger.entries = calloc(larger.capacity, sizeof *larger.entries);
  if (!larger.entries) return -1;
  for (size_t i = 0; i < map->capacity; i++) {
    struct entry *entry = &map->entries[i];
    if (entry->word) *find(&larger, entry->word) = *entry;
  }
  free(map->entries);
  *map = larger;
  return 0;
}

/* Counts a word. Returns 0 on success, or -1 if memory runs out. */
static int add(struct map *map, const char *word) {
  if (map->count * 4 >= map->capacity * 3 && grow(map) != 0) return -1;
  struct entry *entry = find(map, word);
  if (!entry->word) {
    entry->word = strdup(word);
    if (!entry->word) return -1;
    map->count++;
  }
  entry->count++;
  return 0;
}

static void destroy(struct map *map) {
  for (size_t i = 0; i < map->capacity; i++) free(map->entries[i].word);
  free(map->entries);
}

int main(void) {
  struct map map = {0};
  /* The Collatz sequences of the first 3,000 numbers, with each number written as a word. */
  for (unsigned start = 1; start <= 3000; start++) {
    for (unsigned n = start; n != 1; n = n % 2 ? 3 * n + 1 : n / 2) {
      char word[16];
      snprintf(word, sizeof word, "%u", n);
      if (add(&map, word) != 0) return EXIT_FAILURE;
    }
  }
  printf("%zu different words\n", map.count);
  for (const char **word = (const char *[]){"2", "10", "27", "9232", NULL}; *word; word++) {
    printf("%s: %d times\n", *word, find(&map, *word)->count);
  }
  destroy(&map);
  return EXIT_SUCCESS;
}
