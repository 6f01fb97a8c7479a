// WASI has no setjmp. The recorded programs use it only for errors, which do not occur.
#pragma once
#ifdef __EMSCRIPTEN__
#include_next <setjmp.h>
#else
typedef int jmp_buf[1];
#define setjmp(buffer) ((void)(buffer), 0)
#define longjmp(buffer, value) __builtin_trap()
#endif
