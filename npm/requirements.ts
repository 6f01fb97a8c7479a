/** What a module that holds the core says, in a section of its own, of what it needs. cabi/standalone.ts writes it. */

/** In bytes. */
export interface Requirements {
  /** The zeroed memory that the module takes for its own. */
  readonly stateSize: number;
  readonly stateAlignment: number;
}

/** The state's, in every build: it holds 64-bit numbers, and 16 keeps its lists off more cache lines than they need. */
export const STATE_ALIGNMENT = 16;

/** The name of that section, which holds them as JSON. */
export const REQUIREMENTS_SECTION = "rsbmalloc";

/** Throws an Error of one line if it says nothing. */
export function readRequirements(module: WebAssembly.Module): Requirements {
  const [section] = WebAssembly.Module.customSections(module, REQUIREMENTS_SECTION);
  if (!section)
    throw new Error(
      `rsbmalloc: the module is not rsbmalloc.wasm: it has no section \`${REQUIREMENTS_SECTION}\``,
    );
  return JSON.parse(new TextDecoder().decode(section));
}
