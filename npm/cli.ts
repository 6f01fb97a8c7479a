#!/usr/bin/env node
/** The command `rsbmalloc`. Each of its commands is a module that is loaded when it is asked for. */
import { readFileSync } from "node:fs";
import sade, { type Sade } from "sade";

interface Command {
  /** Adds the command to the ones that the program knows. Its action throws an Error of one line on bad input. */
  readonly register: (cli: Sade) => void;
}

const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  flags: () => import("./flags.ts"),
  inspect: () => import("./inspect/command.ts"),
  swap: () => import("./swap/command.ts"),
};

async function main(args: readonly string[]): Promise<void> {
  const manifest = new URL("../package.json", import.meta.url);
  const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };
  const cli = sade("rsbmalloc").version(version);

  const asked = args.find((arg) => !arg.startsWith("-"));
  if (asked !== undefined && !Object.hasOwn(COMMANDS, asked)) {
    throw new Error(`no command ${asked}; there is: ${Object.keys(COMMANDS).join(", ")}`);
  }
  for (const load of asked ? [COMMANDS[asked]!] : Object.values(COMMANDS)) (await load()).register(cli);
  if (args.length === 0) return cli.help();
  const answered = ["-h", "--help", "-v", "--version"];
  if (asked === undefined && !args.some((arg) => answered.includes(arg)))
    throw new Error(`no command in ${args.join(" ")}; there is: ${Object.keys(COMMANDS).join(", ")}`);

  const unknown = (option: string) => {
    throw new Error(`no option ${option}; see rsbmalloc ${asked} --help`);
  };
  const parsed = cli.parse(["", "", ...args], { lazy: true, unknown });
  // sade has no result when it has answered by itself, as to --help.
  await parsed?.handler(...parsed.args);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(`rsbmalloc: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
