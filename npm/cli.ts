#!/usr/bin/env node
/** The command `rsbmalloc`. Its subcommands throw a one-line Error on bad input. */
import { readFileSync } from "node:fs";
import { newCommand, runCommandLine } from "./command-line.ts";
import { registerFlags } from "./flags.ts";
import { registerInspect } from "./inspect/command.ts";
import { registerSwap } from "./swap/command.ts";

const manifest = new URL("../package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
const program = newCommand("rsbmalloc", "rsbmalloc --help")
  .version(version, "-v, --version", "Print the version")
  .helpCommand(false);
for (const register of [registerFlags, registerInspect, registerSwap]) register(program);
// Commander's own would display the help of the program for a command that does not exist.
program
  .command("help")
  .description("Display the help of a command")
  .argument("[command]")
  .action((name?: string) => {
    const command = name === undefined ? program : program.commands.find((each) => each.name() === name);
    if (command) command.outputHelp();
    else program.error(`error: unknown command '${name}'`);
  });
await runCommandLine(program);
