/** LLVM's tools, which read and link what cabi/ writes: those of the npm compiler, and native ones of other versions. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { runLLVM } from "@yowasp/clang";
import { test } from "uvu";
import { writeObject } from "../cabi/object.ts";
import { findProgram } from "../tools/path.ts";
import { assemble } from "./support-wat.ts";
import { skip } from "./support.ts";

export type Files = Readonly<Record<string, Uint8Array | string>>;

export interface Result {
  readonly stdout: string;
  readonly files: Record<string, Uint8Array>;
}

export interface Llvm {
  readonly name: string;
  /** Returns the executables of these tools that this machine lacks. */
  missing(...tools: readonly Tool[]): string[];
  /** Runs a tool in a folder with `files`; throws an Error with its messages if it fails. */
  run(tool: Tool, args: readonly string[], files: Files): Promise<Result>;
}

export type Tool = "ar" | "nm" | "readobj" | "wasm-ld";

const npm: Llvm = {
  name: "npm",
  missing: () => [],
  async run(tool, args, files) {
    const decoder = new TextDecoder();
    let stdout = "";
    let stderr = "";
    const options = {
      stdout: (bytes: Uint8Array | null) =>
        void (stdout += bytes ? decoder.decode(bytes, { stream: true }) : ""),
      stderr: (bytes: Uint8Array | null) =>
        void (stderr += bytes ? decoder.decode(bytes, { stream: true }) : ""),
      fetchProgress: () => {},
      decodeASCII: false,
    };
    try {
      const output = await runLLVM([tool, ...args], { ...files }, options);
      return { stdout, files: output as Record<string, Uint8Array> };
    } catch (error) {
      throw new Error(`${tool} ${args.join(" ")}: ${stderr || String(error)}`, { cause: error });
    }
  },
};

function native(version: number): Llvm {
  const executable = (tool: Tool): string => `${tool === "wasm-ld" ? tool : `llvm-${tool}`}-${version}`;
  return {
    name: `native ${version}`,
    missing: (...tools) => tools.map(executable).filter((name) => findProgram(name) === undefined),
    async run(tool, args, files) {
      const folder = mkdtempSync(path.join(os.tmpdir(), "rsbmalloc-"));
      try {
        for (const [name, content] of Object.entries(files)) writeFileSync(path.join(folder, name), content);
        const { status, stdout, stderr } = spawnSync(executable(tool), args, {
          cwd: folder,
          encoding: "utf8",
        });
        if (status !== 0) throw new Error(`${tool} ${args.join(" ")}: ${stderr}`);
        const read = (name: string): [string, Uint8Array] => [name, readFileSync(path.join(folder, name))];
        return { stdout, files: Object.fromEntries(readdirSync(folder).map(read)) };
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  };
}

/** 14 is the oldest version of which Debian has a wasm-ld. */
export const LLVMS: readonly Llvm[] = [npm, native(22), native(14)];

/** Linker options for a module that can be loaded at any address, as old and new releases of emcc pass them. */
export function sharedOptions({ name }: Llvm): string[] {
  const unresolved = name === "native 14" ? "--import-undefined" : "--unresolved-symbols=import-dynamic";
  return ["-shared", "--experimental-pic", "--no-entry", unresolved];
}

export interface NamedSymbol {
  readonly name: string;
  /** nm's letter: T and t functions, W weak, U and w undefined, d data. */
  readonly type: string;
}

/** The symbols of an object or of an archive's members, sorted by name. */
export async function symbols(llvm: Llvm, file: Uint8Array): Promise<NamedSymbol[]> {
  const { stdout } = await llvm.run("nm", ["--format=posix", "file"], { file });
  return stdout
    .split("\n")
    .map((line) => line.split(" "))
    .filter((words) => words.length > 1)
    .map(([name, type]) => ({ name: name!, type: type! }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Returns a function that adds a test which runs these tools of `llvm`, or skips it if one of them is missing. */
export function checker(llvm: Llvm, ...tools: readonly Tool[]) {
  const missing = llvm.missing(...tools);
  return (name: string, run: () => Promise<void>): void => {
    if (missing.length > 0) skip(`${name} (${llvm.name})`, `needs ${missing.join(", ")}`);
    else test(`${name} (${llvm.name})`, run);
  };
}

/** Assembles a module in the text format, in its relocatable form. */
export function relocatable(wat: string): Uint8Array {
  return assemble(wat, {}, { relocatable: true, write_debug_names: true });
}

/** Makes an object of functions in the text format. Each function in `names` becomes a public symbol. */
export function objectOf(functions: string, ...names: readonly string[]): Uint8Array {
  const exports = names.map((name) => `(export "${name}" (func $${name}))`).join(" ");
  return writeObject(relocatable(`(module (import "env" "memory" (memory 0)) ${functions} ${exports})`), {
    functions: new Map(names.map((name) => [name, [{ name }]])),
    addresses: new Map(),
    features: [],
  });
}
