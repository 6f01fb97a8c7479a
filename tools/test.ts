/**
 * Runs the tests: `node --import tsx tools/test.ts [PATTERN]`, where PATTERN is part of a file's name. Each file runs in its
 * own process, two at a time. The last line counts the tests. Tests that were skipped (`skipped: NAME: REASON` in the output)
 * count as failures under CI=true.
 */
import { spawn } from "node:child_process";
import { readdir } from "node:fs/promises";
import path from "node:path";
import { ROOT, UserError, runCommand } from "./command.ts";

const FOLDER = "wasi-tests";
const AT_ONCE = 2;
const TIME_LIMIT_MINUTES = 20;

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly string[];
  readonly output: string;
}

await runCommand(async () => {
  const [pattern = ""] = process.argv.slice(2);
  const names = await readdir(path.join(ROOT, FOLDER));
  const files = names.filter((name) => name.endsWith(".test.ts") && name.includes(pattern)).sort();
  if (files.length === 0) throw new UserError(`no test file in ${FOLDER} has "${pattern}" in its name`);

  const outcomes: Outcome[] = [];
  const waiting = [...files];
  const worker = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      const started = performance.now();
      const outcome = await runFile(file);
      outcomes.push(outcome);
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      console.log(`${file}: ${summary(outcome)} (${seconds} s)`);
      if (outcome.failed > 0) console.log(outcome.output);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));

  const skipped = outcomes.flatMap((outcome) => outcome.skipped);
  for (const line of skipped) console.log(`skipped: ${line}`);
  const skipsFail = process.env.CI === "true";
  if (skipsFail && skipped.length > 0) console.log("Under CI=true, skipped tests are failures.");
  const sum = (count: (outcome: Outcome) => number) =>
    outcomes.reduce((total, each) => total + count(each), 0);
  const total: Outcome = {
    passed: sum(({ passed }) => passed),
    failed: sum(({ failed }) => failed) + (skipsFail ? skipped.length : 0),
    skipped: skipsFail ? [] : skipped,
    output: "",
  };
  console.log(summary(total));
  if (total.failed > 0) process.exitCode = 1;
});

function summary({ passed, failed, skipped }: Outcome): string {
  const counts = `${passed} passed, ${failed} failed`;
  return skipped.length > 0 ? `${counts}, ${skipped.length} skipped` : counts;
}

async function runFile(file: string): Promise<Outcome> {
  const child = spawn(process.execPath, ["--import", "tsx", path.join(FOLDER, file)], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const collect = (chunk: string) => void (output += chunk);
  child.stdout.setEncoding("utf8").on("data", collect);
  child.stderr.setEncoding("utf8").on("data", collect);
  const timer = setTimeout(() => child.kill("SIGKILL"), TIME_LIMIT_MINUTES * 60_000);
  const end = await new Promise<string | number>((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("close", (code, signal) => resolve(signal ?? code ?? 0));
  });
  clearTimeout(timer);
  if (end === "SIGKILL")
    output += `\n${file} took more than ${TIME_LIMIT_MINUTES} minutes, or memory ran out`;
  return readOutcome(output, end);
}

/**
 * Parses the counts with which uvu ends a file's output. A file that ends before that, or that passes all tests and then
 * exits with an error, has one failure.
 */
function readOutcome(output: string, end: string | number): Outcome {
  const skipped = [...output.matchAll(/^skipped: (.*)$/gm)].map((match) => match[1]!);
  const counts = /^ {2}Total: +(\d+)\n {2}Passed: +(\d+)$/m.exec(output);
  if (!counts) {
    const message = end === 0 ? "the file ended without running its tests" : `ended early with ${end}`;
    const failed = end === 0 && skipped.length > 0 ? 0 : 1;
    return { passed: 0, failed, skipped, output: `${output}\n${message}` };
  }
  const [total, passed] = [Number(counts[1]), Number(counts[2])];
  const failed = total - passed;
  return { passed, failed: end !== 0 && failed === 0 ? 1 : failed, skipped, output };
}
