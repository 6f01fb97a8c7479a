/** Makes the stand-alone module: the core as compiled, but with the public names as its exports. */
import { EXTERN, customSection, flatten, withExports } from "../npm/binary-format.ts";
import { REQUIREMENTS_SECTION, type Requirements } from "../npm/requirements.ts";
import { UserError } from "../tools/command.ts";

/**
 * Returns `module` with each function export replaced by those that `names` lists for it, and without other exports.
 */
export function writeStandalone(
  module: Uint8Array,
  names: ReadonlyMap<string, readonly string[]>,
  requirements: Requirements,
): Uint8Array {
  const renamed = withExports(module, ({ name, kind }) => {
    if (kind !== EXTERN.function) return [];
    const added = names.get(name);
    if (added === undefined)
      throw new UserError(`nothing says what public names the core's export ${name} has`);
    return added;
  });
  const json = new TextEncoder().encode(JSON.stringify(requirements));
  return flatten([renamed, customSection(REQUIREMENTS_SECTION, json)]);
}
