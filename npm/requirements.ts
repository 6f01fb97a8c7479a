/** The memory that a module with the core needs, stated in a custom section that cabi/standalone.ts writes. */

/** Sizes in bytes. */
export interface Requirements {
  /** Size of the zeroed memory that the module needs for its state. */
  readonly stateSize: number;
  readonly stateAlignment: number;
}

/**
 * Alignment of the state in every build, in bytes. The state holds 64-bit numbers, and 16 keeps its lists from occupying
 * more cache lines than necessary.
 */
export const STATE_ALIGNMENT = 16;

/** Name of that section, which contains the Requirements as JSON. */
export const REQUIREMENTS_SECTION = "rsbmalloc";

/** Throws a one-line Error if the module has no such section. */
export function readRequirements(module: WebAssembly.Module): Requirements {
  const [section] = WebAssembly.Module.customSections(module, REQUIREMENTS_SECTION);
  if (!section)
    throw new Error(
      `rsbmalloc: the module is not rsbmalloc.wasm: it has no \`${REQUIREMENTS_SECTION}\` section`,
    );
  return JSON.parse(new TextDecoder().decode(section));
}
