/** `rsbmalloc inspect`: runs a WASI program and reports on its heap. */
import { closeSync, existsSync, openSync, realpathSync, rmSync, statSync } from "node:fs";
import { InvalidArgumentError, Option, type Command } from "commander";
import { list, nonEmpty, single, writeFile } from "../command-line.ts";
import { reasonOf } from "../errors.ts";
import { formatHtml } from "./html.ts";
import { readLayouts } from "./layouts.ts";
import type { End, RunReport } from "./report.ts";
import { inspect } from "./run.ts";
import { formatSample, formatText } from "./text.ts";
import type { Every } from "./timeline.ts";

interface Options {
  readonly json?: boolean;
  readonly html?: boolean;
  readonly output?: string;
  readonly every?: Every;
  readonly leaks?: boolean;
  /** In milliseconds. */
  readonly timeout?: number;
  readonly dir?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** The longest time limit. */
const MOST_SECONDS = 999_999;

const STDOUT = 1;
const STDERR = 2;

export function registerInspect(program: Command): void {
  program
    .command("inspect")
    .description("Run a WASI program and report on its heap")
    .argument("<program>", "File of the program", nonEmpty)
    .argument("[arguments...]", "Arguments of the program; put its options after --")
    .addOption(
      new Option("--json", "Report as JSON; the program's own output goes to standard error").conflicts(
        "html",
      ),
    )
    .option("--html", "Report as an HTML page; the program's own output goes to standard error")
    .option(
      "-o, --output <file>",
      "Write the report to this file instead of standard output, as HTML or JSON if its name ends in .html or .json",
      single,
    )
    .option(
      "--every <time or calls>",
      "Sample the heap at intervals: a time (100ms, 5s), or a number of calls to malloc and free (5000)",
      parseEvery,
    )
    .option("--leaks", "List the calls whose blocks were never freed")
    .option(
      "--timeout <time>",
      "Stop the program after this time (10s, 500ms; a number alone is seconds) and report on its heap",
      parseTimeout,
    )
    .option("--dir <folder>", "Give the program access to a folder; may be repeated", list)
    .option("--env <name=value>", "Set a variable of the program's environment; may be repeated", parseEnv)
    .addHelpText(
      "after",
      `
Examples:
  $ rsbmalloc inspect app.wasm
  $ rsbmalloc inspect --output heap.html app.wasm -- --option-of-the-app file.txt
  $ rsbmalloc inspect --leaks --dir . app.wasm file.txt`,
    )
    .showHelpAfterError("; see rsbmalloc inspect --help (options of the program go after --)")
    .action(run);
}

async function run(program: string, args: readonly string[], options: Options): Promise<void> {
  const { json = false, html = false, output, every, leaks = false, timeout, dir = [], env = {} } = options;
  // Check before the program runs, which may take a long time.
  if (output !== undefined) checkOutput(output, program);

  const report = await inspect(program, readLayouts(), {
    args,
    env,
    folders: Object.fromEntries(dir.map((folder) => [folder, folder])),
    leaks,
    stdout: (json || html) && output === undefined ? STDERR : STDOUT,
    ...(timeout === undefined ? {} : { timeLimit: timeout }),
    ...(every ? { every, onSample: (sample) => process.stderr.write(`${formatSample(sample)}\n`) } : {}),
  });
  const text = FORMATS[json ? "json" : html ? "html" : formatNamed(output)](report);
  if (output === undefined) process.stdout.write(text);
  else writeFile(output, text);
  process.exitCode = exitCodeFor(report.end);
}

/** Returns the low byte of the program's exit code, all that the system keeps, or 1 if that hides a failure. */
function exitCodeFor(end: End): number {
  const code = "exitCode" in end ? end.exitCode : 1;
  return code & 0xff || Number(code !== 0);
}

const FORMATS = {
  json: (report: RunReport) => `${JSON.stringify(report, null, 2)}\n`,
  html: formatHtml,
  text: formatText,
};

/** Returns the format that the name of the output stands for. */
function formatNamed(output = ""): keyof typeof FORMATS {
  const [, ending] = /\.(json|html)$/i.exec(output) ?? [];
  return (ending?.toLowerCase() as "json" | "html" | undefined) ?? "text";
}

function parseEvery(text: string, previous: Every | undefined): Every {
  const [, digits, unit] = /^([1-9]\d{0,9})(ms|s)?$/.exec(single(text, previous)) ?? [];
  if (digits === undefined)
    throw new InvalidArgumentError("Use a time such as 100ms or a number of calls such as 5000");
  return unit === undefined ? { calls: Number(digits) } : { ms: milliseconds(digits, unit) };
}

function parseTimeout(text: string, previous: number | undefined): number {
  const [, digits, unit = "s"] = /^([1-9]\d*)(ms|s)?$/.exec(single(text, previous)) ?? [];
  const ms = digits === undefined ? Infinity : milliseconds(digits, unit);
  if (ms > MOST_SECONDS * 1000)
    throw new InvalidArgumentError(
      `Use a whole number of seconds from 1 to ${MOST_SECONDS}, or a time such as 500ms`,
    );
  return ms;
}

function parseEnv(text: string, previous: Readonly<Record<string, string>> = {}): Record<string, string> {
  const [, name, value] = /^([^=]+)=(.*)$/s.exec(single(text, undefined)) ?? [];
  if (name === undefined) throw new InvalidArgumentError("Use NAME=VALUE");
  return { ...previous, [name]: value! };
}

function milliseconds(digits: string, unit: string): number {
  return Number(digits) * (unit === "s" ? 1000 : 1);
}

/** Throws a one-line Error if the file cannot be written. Neither changes nor leaves a file, since the run may fail. */
function checkOutput(file: string, program: string): void {
  const isNew = !existsSync(file);
  try {
    closeSync(openSync(file, "a"));
  } catch (error) {
    throw new Error(`cannot write ${file}: ${reasonOf(error)}`, { cause: error });
  }
  if (isNew) rmSync(realpathSync(file));
  else if (isSameFile(file, program))
    throw new Error(`the report would replace the program: give --output a file other than ${program}`);
}

function isSameFile(one: string, other: string): boolean {
  const [a, b] = [one, other].map((file) => statSync(file, { throwIfNoEntry: false }));
  return a !== undefined && a.dev === b?.dev && a.ino === b.ino;
}
