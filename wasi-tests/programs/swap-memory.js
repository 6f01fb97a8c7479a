// For Emscripten's --pre-js: writes the memory of a program that has ended to the file that its first argument names.
const [, , memoryFile] = process.argv;
if (memoryFile) process.on("exit", () => require("fs").writeFileSync(memoryFile, HEAPU8));
