/** Reads the layouts of this package's builds of the allocator (Node only). */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import path from "node:path";
import { RESTORE } from "../errors.ts";
import type { Layout } from "./layout.ts";

const LIB = fileURLToPath(new URL(/* webpackIgnore: true */ "../../lib", import.meta.url));

/** Throws a one-line Error if there are none. */
export function readLayouts(): Layout[] {
  const files = listFiles().filter((name) => /^layout(-[a-z]+)*\.json$/.test(name));
  if (files.length === 0) throw new Error(`no layout.json in ${LIB}: ${RESTORE}`);
  return files.map((name) => JSON.parse(readFileSync(path.join(LIB, name), "utf8")) as Layout);
}

function listFiles(): string[] {
  try {
    return readdirSync(LIB);
  } catch {
    return [];
  }
}
