// WASI has no setjmp. The recorded programs use it for errors alone, and make none.
#pragma once
typedef int jmp_buf[1];
#define setjmp(buffer) ((void)(buffer), 0)
#define longjmp(buffer, value) __builtin_trap()
