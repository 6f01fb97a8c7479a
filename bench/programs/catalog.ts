/** Programs that use malloc a lot. `make traces` records their calls, and the Emscripten section runs them as a whole. */
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { SQLITE_DEFINES, cities, sqliteFolder } from "../../tools/sqlite.ts";
import { debianSource } from "../peers/debian.ts";
import { BENCH } from "../toolchain.ts";
import type { Group } from "../workloads/workload.ts";

export const PROGRAMS = path.join(BENCH, "programs");

export interface Program {
  readonly name: string;
  readonly group: Group;
  readonly about: string;
  /** The main source, a file in bench/programs. */
  readonly main: string;
  /** The sources of the program's libraries, and folders with their headers. C++ libraries are #included by the program. */
  readonly sources?: () => Promise<readonly string[]>;
  readonly include?: () => Promise<readonly string[]>;
  readonly args?: readonly string[];
  /** Its standard input. */
  readonly input?: () => Promise<string | Buffer>;
}

/** Returns the files in a folder with an ending, except those in `without`. */
function sourcesIn(folder: string, ending: string, without: readonly string[] = []): string[] {
  return readdirSync(folder)
    .filter((f) => f.endsWith(ending) && !without.includes(f))
    .map((f) => path.join(folder, f));
}

const inPackage = async (name: string, folder = ""): Promise<string> =>
  path.join(await debianSource(name), folder);

export const programs: readonly Program[] = [
  {
    name: "sqlite",
    group: "small",
    about: "SQLite: an in-memory database is filled, indexed, queried, joined and updated",
    main: "sqlite.c",
    sources: async () => [path.join(sqliteFolder(), "sqlite3.c")],
    include: async () => [sqliteFolder()],
    args: SQLITE_DEFINES,
  },
  {
    name: "lua",
    group: "small",
    about: "the Lua interpreter: objects, closures, strings, a parser, sorting",
    main: "lua.c",
    sources: async () =>
      sourcesIn(await inPackage("lua5.4", "src"), ".c", [
        "lua.c",
        "luac.c",
        "linit.c",
        "loslib.c",
        "liolib.c",
        "loadlib.c",
      ]),
    include: async () => [await inPackage("lua5.4", "src")],
    // A fixed hash seed, instead of one from the clock, makes each recording the same.
    args: ["-Dluai_makeseed(L)=42u"],
    input: async () => readFileSync(path.join(PROGRAMS, "lua.lua")),
  },
  {
    name: "mujs",
    group: "small",
    about: "the JavaScript interpreter MuJS: objects, closures, regular expressions, JSON, sorting",
    main: "javascript.c",
    sources: async () => [await inPackage("mujs", "one.c")],
    include: async () => [await inPackage("mujs")],
    input: async () => readFileSync(path.join(PROGRAMS, "javascript.js")),
  },
  {
    name: "duktape",
    group: "small",
    about: "the JavaScript interpreter Duktape on the same script",
    main: "duktape.c",
    sources: async () => [await inPackage("duktape", "src/duktape.c")],
    include: async () => [await inPackage("duktape", "src")],
    input: async () => readFileSync(path.join(PROGRAMS, "javascript.js")),
  },
  {
    name: "stl",
    group: "small",
    about: "C++ containers: an index of a text's words, a trie, lists, queues, strings",
    main: "stl.cc",
    input: async () => readFileSync(path.join(sqliteFolder(), "sqlite3.h")).subarray(0, 200_000),
  },
  {
    name: "cjson",
    group: "small",
    about: "cJSON: a document is parsed to a tree, printed, parsed again and deleted",
    main: "cjson.c",
    sources: async () => [await inPackage("cjson", "cJSON.c")],
    include: async () => [await inPackage("cjson")],
    input: async () => JSON.stringify((await cities()).slice(0, 4000)),
  },
  {
    name: "expat",
    group: "small",
    about: "Expat: documents are parsed to a tree of elements, attributes and texts",
    main: "expat.c",
    sources: async () => {
      const lib = await inPackage("expat", "expat/lib");
      return ["xmlparse.c", "xmlrole.c", "xmltok.c"].map((f) => path.join(lib, f));
    },
    include: async () => [await inPackage("expat", "expat/lib")],
    input: async () => xml((await cities()).slice(0, 700)),
  },
  {
    name: "pugixml",
    group: "large",
    about: "pugixml: documents are parsed, changed, saved and parsed again, in pages of 32 KiB",
    main: "xml.cc",
    include: async () => [await inPackage("pugixml", "src")],
    args: ["-DPUGIXML_NO_EXCEPTIONS"],
    input: async () => xml((await cities()).slice(0, 2000)),
  },
  {
    name: "cmark",
    group: "small",
    about: "cmark: a specification in Markdown becomes a tree, HTML, LaTeX and Markdown",
    main: "markdown.c",
    sources: async () => sourcesIn(await inPackage("cmark", "src"), ".c", ["main.c", "cmark-fuzz.c"]),
    include: async () => [await inPackage("cmark", "src")],
    input: async () => readFileSync(await inPackage("cmark", "test/spec.txt")),
  },
  {
    name: "images",
    group: "large",
    about: "LodePNG: pictures are encoded, decoded, halved and encoded again",
    main: "images.cc",
    include: async () => [await inPackage("lodepng")],
  },
  {
    name: "compress",
    group: "large",
    about: "zlib and Zstandard: pieces of a text are compressed and unpacked",
    main: "compress.c",
    sources: async () => [
      ...sourcesIn(await inPackage("zlib"), ".c").filter((f) => !/gz\w*\.c$|minigzip|example/.test(f)),
      ...sourcesIn(await inPackage("libzstd", "lib/common"), ".c", ["pool.c", "threading.c"]),
      ...sourcesIn(await inPackage("libzstd", "lib/compress"), ".c", ["zstdmt_compress.c"]),
      ...sourcesIn(await inPackage("libzstd", "lib/decompress"), ".c"),
    ],
    include: async () => [await inPackage("zlib"), await inPackage("libzstd", "lib")],
    args: ["-DZSTD_DISABLE_ASM"],
    input: async () => readFileSync(path.join(sqliteFolder(), "sqlite3.h")),
  },
];

function xml(records: Awaited<ReturnType<typeof cities>>): string {
  const escape = (text: string) => text.replace(/[&<"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const rows = records.map(
    ({ name = "", country = "", lat = "", lng = "" }) =>
      `  <city country="${country}">\n    <name>${escape(name)}</name>\n    <place lat="${lat}" lng="${lng}"/>\n  </city>`,
  );
  return `<?xml version="1.0" encoding="UTF-8"?>\n<cities>\n${rows.join("\n")}\n</cities>\n`;
}

/** Returns what to compile a program from. The sources of libraries are downloaded on first use. */
export async function sourcesOf({ main, sources, include, args = [] }: Program) {
  return {
    inputs: [path.join(PROGRAMS, main), ...((await sources?.()) ?? [])],
    includes: [PROGRAMS, path.join(PROGRAMS, "include"), ...((await include?.()) ?? [])],
    flags: ["-w", "-fno-exceptions", ...args],
  };
}
