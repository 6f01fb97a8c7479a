/** A cache of what tools have built, build/cache. The key is a hash of everything that the result depends on. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { ROOT, UserError, displayPath } from "./command.ts";

const CACHE = path.join(ROOT, "build", "cache");

export interface Recipe {
  /** Names, versions and options of the tools. */
  readonly by: readonly string[];
  /** The input files: paths relative to the project's folder, or absolute. */
  readonly of: readonly string[];
  /** Returns the name by which the tool knows a file, as that may end up in the result. */
  readonly place?: (file: string) => string;
  /** The extension of the result's name; empty by default, as for a folder. */
  readonly extension?: string;
}

/**
 * Returns the path of a result, a file or a folder. If it is not in the cache, `make` is called to create it at the path
 * that it is given. Throws a UserError if an input file is missing.
 */
export async function cached(
  { by, of, place = (file) => file, extension = "" }: Recipe,
  make: (file: string) => Promise<void>,
): Promise<string> {
  const hash = createHash("sha256").update(by.join("\0"));
  for (const file of of) {
    const contents = await readFile(path.resolve(ROOT, file)).catch(() => {
      throw new UserError(`${displayPath(file)} does not exist: run make first, or correct the path`);
    });
    hash.update(`\0${place(file)}\0${contents.length}\0`).update(contents);
  }
  const entry = path.join(CACHE, hash.digest("hex").slice(0, 32) + extension);
  if (existsSync(entry)) return entry;
  await mkdir(CACHE, { recursive: true });
  // Two processes may build the same result at once, so each builds it in a folder of its own. The final name is used from
  // the start: the linker writes the name of its output, though not the folder's, into the program.
  const folder = await mkdtemp(path.join(CACHE, "unfinished-"));
  try {
    const unfinished = path.join(folder, path.basename(entry));
    await make(unfinished);
    await rename(unfinished, entry).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOTEMPTY") throw error;
    });
  } finally {
    await rm(folder, { recursive: true });
  }
  return entry;
}
