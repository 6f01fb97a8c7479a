// cmark turns the document on standard input into a tree and the tree into HTML, LaTeX and Markdown.
#include "cmark.h"
#include "input.h"
#include <stdlib.h>

int main(void) {
  size_t length = read_input();
  for (int round = 0; round < 2; round++) {
    cmark_node *document = cmark_parse_document(input, length, CMARK_OPT_DEFAULT);
    free(cmark_render_html(document, CMARK_OPT_DEFAULT));
    free(cmark_render_latex(document, CMARK_OPT_DEFAULT, 80));
    free(cmark_render_commonmark(document, CMARK_OPT_DEFAULT, 72));
    cmark_node_free(document);
  }
}
