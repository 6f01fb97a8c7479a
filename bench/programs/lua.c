// Lua runs the script on its standard input.
#include "input.h"
#include "lauxlib.h"
#include "lualib.h"
#include <stdio.h>

int main(void) {
  size_t length = read_input();
  lua_State *L = luaL_newstate();
  luaL_requiref(L, "_G", luaopen_base, 1);
  luaL_requiref(L, "string", luaopen_string, 1);
  luaL_requiref(L, "table", luaopen_table, 1);
  luaL_requiref(L, "math", luaopen_math, 1);
  if (luaL_loadbuffer(L, input, length, "script") != LUA_OK || lua_pcall(L, 0, 0, 0) != LUA_OK) {
    fprintf(stderr, "%s\n", lua_tostring(L, -1));
    return 1;
  }
  lua_close(L);
}
