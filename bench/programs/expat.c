// Expat parses the document on standard input; its handlers build a tree of nodes, attributes and text, as a DOM does.
#include "expat.h"
#include "input.h"
#include <stdlib.h>
#include <string.h>

struct node {
  char *name, *text, **attributes;
  size_t text_length;
  struct node *parent, *first, *last, *next;
};

static struct node *current;

static void start(void *data, const char *name, const char **attributes) {
  struct node *node = calloc(1, sizeof *node);
  size_t n = 0;
  node->name = strdup(name);
  while (attributes[n]) n++;
  node->attributes = malloc((n + 1) * sizeof *attributes);
  for (size_t i = 0; i < n; i++) node->attributes[i] = strdup(attributes[i]);
  node->attributes[n] = NULL;
  node->parent = current;
  if (current) {
    if (current->last) current->last->next = node;
    else current->first = node;
    current->last = node;
  }
  current = node;
}

static void end(void *data, const char *name) {
  if (current->parent) current = current->parent;
}

static void characters(void *data, const char *text, int length) {
  current->text = realloc(current->text, current->text_length + length + 1);
  memcpy(current->text + current->text_length, text, length);
  current->text[current->text_length += length] = 0;
}

static void delete(struct node *node) {
  for (struct node *child = node->first, *next; child; child = next) {
    next = child->next;
    delete (child);
  }
  for (char **attribute = node->attributes; *attribute; attribute++) free(*attribute);
  free(node->attributes);
  free(node->name);
  free(node->text);
  free(node);
}

int main(void) {
  size_t length = read_input();
  for (int round = 0; round < 10; round++) {
    XML_Parser parser = XML_ParserCreate(NULL);
    XML_SetHashSalt(parser, 42);
    XML_SetElementHandler(parser, start, end);
    XML_SetCharacterDataHandler(parser, characters);
    if (XML_Parse(parser, input, length, 1) != XML_STATUS_OK) return 1;
    XML_ParserFree(parser);
    delete (current);
    current = NULL;
  }
}
