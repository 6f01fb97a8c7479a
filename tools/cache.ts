/** What tools have made, in build/cache: each result under a hash of all that it depends on. */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import path from "node:path";
import { ROOT, UserError, displayPath } from "./command.ts";

const CACHE = path.join(ROOT, "build", "cache");

export interface Made {
  /** Names, versions and options that the result depends on. */
  readonly by: readonly string[];
  /** Files that it is made of: paths relative to the project's folder, or absolute. */
  readonly of: readonly string[];
  /** How a file's name is known to the tool, if it gets into the result. */
  readonly place?: (file: string) => string;
  /** What the result's name ends with; nothing if it is a folder. */
  readonly extension?: string;
}

/**
 * The path of a result, a file or a folder, which `make` makes at the path that it is given if it is not in the cache. Throws a
 * UserError if one of the files is missing.
 */
export async function cached(
  { by, of, place = (file) => file, extension = "" }: Made,
  make: (file: string) => Promise<void>,
): Promise<string> {
  const hash = createHash("sha256").update(by.join("\0"));
  for (const file of of) {
    const contents = await readFile(path.resolve(ROOT, file)).catch(() => {
      throw new UserError(`there is no file ${displayPath(file)}: run make first, or mend the path`);
    });
    hash.update(`\0${place(file)}\0${contents.length}\0`).update(contents);
  }
  const entry = path.join(CACHE, hash.digest("hex").slice(0, 32) + extension);
  if (existsSync(entry)) return entry;
  await mkdir(CACHE, { recursive: true });
  // The same may be made twice at once. The linker writes its output's name into a program, but not its folder's.
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
