/*
 * No libc, no WASI: --target=wasm32-unknown-unknown -nostdlib. The allocator needs nothing but linear memory. The program is
 * a module with exports; its host provides a function to print text.
 *
 * Without libc there is no <stdlib.h>, but rsbmallocc.h declares everything needed here.
 */
#include <rsbmallocc.h>

__attribute__((import_module("host"), import_name("print"))) void print(const char *text, size_t length);

/*
 * Returns the digits of 2 to the power of `exponent`, least significant first, in a block that the caller frees, or NULL if
 * memory runs out.
 */
static char *power_of_two(int exponent, size_t *length) {
  size_t capacity = 16;
  char *digits = rsbmalloc(capacity);
  if (!digits) return NULL;
  digits[0] = 1;
  *length = 1;
  for (; exponent > 0; exponent--) {
    int carry = 0;
    for (size_t i = 0; i < *length; i++) {
      int doubled = digits[i] * 2 + carry;
      digits[i] = (char)(doubled % 10);
      carry = doubled / 10;
    }
    if (!carry) continue;
    if (*length == capacity) {
      char *longer = rsbrealloc(digits, capacity *= 2);
      if (!longer) {
        rsbfree(digits);
        return NULL;
      }
      digits = longer;
    }
    digits[(*length)++] = (char)carry;
  }
  return digits;
}

/* Prints 2 to the power of `exponent`. Returns 0 on success, when no block is left in use. */
__attribute__((export_name("run"))) int run(int exponent) {
  size_t length;
  char *digits = power_of_two(exponent, &length);
  if (!digits) return 1;
  char *text = rsbmalloc(length + 1);
  if (!text) {
    rsbfree(digits);
    return 1;
  }
  for (size_t i = 0; i < length; i++) text[i] = (char)('0' + digits[length - 1 - i]);
  text[length] = '\n';
  print(text, length + 1);
  rsbfree(text);
  rsbfree(digits);
  return (int)rsbmallinfo().in_use;
}
