/** Makes the stand-alone module: the core as compiled, but with the public names as its exports. */
import { UserError } from "../tools/command.ts";
import {
  EXTERN,
  HEADER,
  SECTION,
  customSection,
  flatten,
  readExports,
  readSections,
  section,
  text,
  unsigned,
  vector,
} from "./wasm.ts";

/** What a host must know to provide the module's imports. In bytes. */
export interface Layout {
  /** The size of the zeroed memory at `env.__rsb_state` that the host reserves for the module's state. */
  readonly stateSize: number;
  readonly stateAlignment: number;
}

/** The custom section that holds the Layout as JSON: `WebAssembly.Module.customSections(module, LAYOUT_SECTION)`. */
export const LAYOUT_SECTION = "rsbmalloc";

/**
 * Returns `module` with each function export replaced by those that `names` lists for it, and without other exports.
 */
export function writeStandalone(
  module: Uint8Array,
  names: ReadonlyMap<string, readonly string[]>,
  layout: Layout,
): Uint8Array {
  const sections = readSections(module).map(({ id, name, payload }) => {
    if (id === SECTION.custom) return customSection(name, payload);
    if (id !== SECTION.export) return section(id, payload);
    const exports = readExports(payload).filter(({ kind }) => kind === EXTERN.function);
    const renamed = exports.flatMap(({ name: core, index }) => {
      const added = names.get(core);
      if (added === undefined)
        throw new UserError(`nothing says what public names the core's export ${core} has`);
      return added.map((exported) => [text(exported), EXTERN.function, unsigned(index)]);
    });
    return section(id, vector(renamed));
  });
  const layoutJson = new TextEncoder().encode(JSON.stringify(layout));
  return flatten([HEADER, sections, customSection(LAYOUT_SECTION, layoutJson)]);
}
