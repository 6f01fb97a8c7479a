/** `rsbmalloc inspect`: runs a WASI program and reports on its heap. */
import { closeSync, existsSync, openSync, realpathSync, rmSync, statSync, writeFileSync } from "node:fs";
import type { Sade } from "sade";
import { formatHtml } from "./html.ts";
import { readLayouts } from "./layouts.ts";
import type { RunReport } from "./report.ts";
import { inspect } from "./run.ts";
import { formatSample, formatText } from "./text.ts";
import type { Every } from "./timeline.ts";

interface Options {
  readonly json?: boolean;
  readonly html?: boolean;
  readonly output?: string;
  readonly every?: string;
  readonly leaks?: boolean;
  readonly timeout?: string;
  readonly dir?: string | readonly string[];
  /** The program's arguments. */
  readonly _: readonly string[];
}

export const VALUES = {
  output: "the name of a file",
  every: "a time as 100ms or a number of calls as 5000",
  timeout: "a whole number of seconds",
  dir: "the name of a folder",
};
export const LISTS = ["dir"];
export const HINT = "; options of the program go after --";

const STDOUT = 1;
const STDERR = 2;

export function register(cli: Sade): void {
  cli
    .command("inspect [program]", "Run a WASI program and report what is in its heap at the end")
    .option("--json", "The report as JSON; the program's own output goes to standard error", false)
    .option("--html", "The report as a page of HTML; the program's own output goes to standard error", false)
    .option("-o, --output", "File for the report, in place of standard output")
    .option("--every", "Look at the heap every so often: 100ms, or so many calls of malloc and free: 5000")
    .option("--leaks", "Say which calls the blocks come from that were never freed", false)
    .option("--timeout", "End the program after so many seconds, and report what is there then")
    .option("--dir", "Folder that the program may use; can be given more than once")
    .example("inspect app.wasm")
    .example("inspect --html --output heap.html app.wasm -- --option-of-the-app file.txt")
    .example("inspect --leaks --dir . app.wasm file.txt")
    .action(run);
}

/** Ends with the program's exit code, or 1 if it had to be ended. Throws an Error of one line on bad input. */
async function run(program: string | undefined, options: Options): Promise<void> {
  if (program === undefined) throw new Error("inspect needs a program: rsbmalloc inspect app.wasm");
  const { json = false, html = false, output, leaks = false } = options;
  if (json && html) throw new Error("--json and --html exclude each other");
  const every = parseEvery(options.every);
  const timeLimit = parseTimeout(options.timeout);
  // Before the program runs, which may take long.
  if (output !== undefined) checkOutput(output, program);

  const report = await inspect(program, readLayouts(), {
    args: options._.map(String),
    folders: Object.fromEntries([options.dir ?? []].flat().map((folder) => [folder, folder])),
    leaks,
    stdout: (json || html) && output === undefined ? STDERR : STDOUT,
    ...(timeLimit === undefined ? {} : { timeLimit }),
    ...(every ? { every, onSample: (sample) => process.stderr.write(`${formatSample(sample)}\n`) } : {}),
  });
  const text = format(report, json, html);
  if (output === undefined) process.stdout.write(text);
  else writeFileSync(output, text);
  process.exitCode = "exitCode" in report.end ? report.end.exitCode : 1;
}

function format(report: RunReport, json: boolean, html: boolean): string {
  if (json) return `${JSON.stringify(report, null, 2)}\n`;
  return html ? formatHtml(report) : formatText(report);
}

function parseEvery(every: Options["every"]): Every | undefined {
  if (every === undefined) return undefined;
  const [, digits, unit] = /^([1-9]\d{0,9})(ms)?$/.exec(every) ?? [];
  if (digits === undefined) throw new Error(`--every takes ${VALUES.every}, not ${every}`);
  return unit ? { ms: Number(digits) } : { calls: Number(digits) };
}

/** Returns milliseconds. */
function parseTimeout(seconds: Options["timeout"]): number | undefined {
  if (seconds === undefined) return undefined;
  if (!/^[1-9]\d{0,5}$/.test(seconds)) throw new Error(`--timeout takes ${VALUES.timeout}, not ${seconds}`);
  return Number(seconds) * 1000;
}

/** Leaves a file that is there as it is, and none where there was none: the run may fail. */
function checkOutput(file: string, program: string): void {
  const isNew = !existsSync(file);
  try {
    closeSync(openSync(file, "a"));
  } catch (error) {
    throw new Error(`cannot write ${file}: ${(error as Error).message}`, { cause: error });
  }
  if (isNew) rmSync(realpathSync(file));
  else if (isSameFile(file, program))
    throw new Error(`the report would replace the program: give --output a file other than ${program}`);
}

function isSameFile(one: string, other: string): boolean {
  const [a, b] = [one, other].map((file) => statSync(file, { throwIfNoEntry: false }));
  return a !== undefined && a.dev === b?.dev && a.ino === b.ino;
}
