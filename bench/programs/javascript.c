// MuJS runs the script on its standard input.
#include "input.h"
#include "mujs.h"

int main(void) {
  read_input();
  js_State *J = js_newstate(NULL, NULL, JS_STRICT);
  if (js_dostring(J, input)) return 1;
  js_freestate(J);
}
