#!/usr/bin/env node
/** The command `rsbmalloc`. Each of its commands is a module that is loaded when it is asked for. */
import { readFileSync } from "node:fs";
import sade, { type Sade } from "sade";

interface Command {
  /** Adds the command to the ones that the program knows. Its action throws an Error of one line on bad input. */
  readonly register: (cli: Sade) => void;
  /** The options that take a value, and what that is. The action has it as text, never empty. */
  readonly VALUES: Readonly<Record<string, string>>;
  /** Those of them that can be given more than once: the action has a list then. */
  readonly LISTS?: readonly string[];
  /** What else to say to an option that there is not. */
  readonly HINT?: string;
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
  const loads = asked ? [COMMANDS[asked]!] : Object.values(COMMANDS);
  const commands = await Promise.all(loads.map((load) => load()));
  for (const { register } of commands) register(cli);
  if (args.length === 0) return cli.help();
  const answered = ["-h", "--help", "-v", "--version"];
  if (asked === undefined && !args.some((arg) => answered.includes(arg)))
    throw new Error(`no command in ${args.join(" ")}; there is: ${Object.keys(COMMANDS).join(", ")}`);

  const [command] = commands as [Command];
  const unknown = (option: string) => {
    throw new Error(`no option ${option}; see rsbmalloc ${asked} --help${command.HINT ?? ""}`);
  };
  const string = Object.keys(command.VALUES);
  const parsed = cli.parse(["", "", ...args], { lazy: true, unknown, string });
  // sade has no result when it has answered by itself, as to --help.
  if (!parsed) return;
  checkOptions(parsed.args.at(-1) as unknown as Record<string, unknown>, command);
  // After an option without a value, mri takes an argument that looks like a number for one.
  await parsed.handler(...parsed.args.map((arg) => (typeof arg === "number" ? String(arg) : arg)));
}

/** What is given again is a list for sade, and what is given without its value empty or false. */
function checkOptions(options: Readonly<Record<string, unknown>>, { VALUES, LISTS = [] }: Command): void {
  for (const [name, given] of Object.entries(options)) {
    // The arguments, `_`, and short forms: the long ones are there as well.
    if (name.length === 1 || given === undefined) continue;
    if (Array.isArray(given) && !LISTS.includes(name)) throw new Error(`--${name} is given more than once`);
    if (name in VALUES && [given].flat().some((value) => !value))
      throw new Error(`--${name} needs ${VALUES[name]}`);
  }
}

function fail(error: unknown): void {
  console.error(`rsbmalloc: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

// Who reads may have had enough, as `head` has. Of what cannot be written to standard error nobody can be told.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") fail(error);
});
process.stderr.on("error", () => {});

try {
  await main(process.argv.slice(2));
} catch (error) {
  fail(error);
}
