// Duktape runs the script on its standard input.
#include "duktape.h"
#include "input.h"

int main(void) {
  size_t length = read_input();
  duk_context *context = duk_create_heap_default();
  duk_eval_lstring_noresult(context, input, length);
  duk_destroy_heap(context);
}
