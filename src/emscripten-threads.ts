// The entry of the builds for Emscripten with threads.

export * from "./emscripten";
export { thread_destructor, thread_end } from "./threads";
