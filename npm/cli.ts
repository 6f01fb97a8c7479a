#!/usr/bin/env node
/** The command `rsbmalloc`. Its subcommands throw a one-line Error on bad input. */
import { readFileSync } from "node:fs";
import { newCommand } from "./command-line.ts";
import { registerFlags } from "./flags.ts";
import { registerInspect } from "./inspect/command.ts";
import { registerSwap } from "./swap/command.ts";

function fail(error: unknown): void {
  console.error(`rsbmalloc: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

const manifest = new URL("../package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
const program = newCommand("rsbmalloc", "rsbmalloc --help")
  .version(version, "-v, --version", "Print the version")
  .helpCommand("help [command]", "Display the help of a command");
for (const register of [registerFlags, registerInspect, registerSwap]) register(program);
await program.parseAsync().catch(fail);
