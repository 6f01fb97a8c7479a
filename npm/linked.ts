/** Throws an Error of one line if a module is a part of a program, or a library for one that runs. */
export function checkLinked(module: WebAssembly.Module): void {
  const has = (section: string) => WebAssembly.Module.customSections(module, section).length > 0;
  if (has("linking")) throw new Error("it is an object file: link it with librsbmallocc.a");
  if (has("dylink.0") || has("dylink")) throw new Error("it is a dynamic library, whose malloc is elsewhere");
}
