/** Makes the stand-alone module: the core as compiled, with the public names for exports. */
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

/** What a host must know before it can provide the module's imports. Bytes. */
export interface Layout {
  /** The zeroed memory at `env.__rsb_state` that the module takes for its own. */
  readonly stateSize: number;
  readonly stateAlignment: number;
}

/** The custom section that holds the Layout as JSON: `WebAssembly.Module.customSections(module, LAYOUT_SECTION)`. */
export const LAYOUT_SECTION = "rsbmalloc";

/** Returns `module` with each function that `names` lists exported by those names, and nothing else exported. */
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
