/** What the commands share: parsing of command lines, and files to write. Every error is reported in one line. */
import { existsSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from "node:fs";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { reasonOf } from "./errors.ts";

/** Returns a program's command, without options. `help` is the command line that prints its help. */
export function newCommand(name: string, help: string): Command {
  // The reader may stop early, as `head` does. Failures to write to standard error cannot be reported anywhere.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") return;
    console.error(`${name}: ${error.message}`);
    process.exitCode = 1;
  });
  process.stderr.on("error", () => {});
  return (
    new Command(name)
      .enablePositionalOptions()
      .helpOption("-h, --help", "Display this help")
      .showSuggestionAfterError(false)
      // No newline yet: the hint of showHelpAfterError goes on the same line.
      .configureOutput({ outputError: (text, write) => write(text.replace(/^error/, name).trimEnd()) })
      .showHelpAfterError(`; see ${help}`)
      // Rather than exit, which would hide a failure to write the help.
      .exitOverride()
  );
}

/** Runs the program's command line. A one-line Error of a command is printed, and the program will exit with 1. */
export async function runCommandLine(program: Command): Promise<void> {
  try {
    await program.parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) {
      console.error(`${program.name()}: ${error instanceof Error ? error.message : error}`);
      process.exitCode = 1;
    } else if (error.exitCode !== 0) {
      // Commander has printed it. After the help or the version the code is 0.
      process.exitCode = error.exitCode;
    }
  }
}

/** Parses an argument that must not be empty. */
export function nonEmpty(text: string): string {
  if (text === "") throw new InvalidArgumentError("It is empty");
  return text;
}

/** Parses the value of an option that may be given only once. */
export function single(text: string, previous: unknown): string {
  if (previous !== undefined) throw new InvalidArgumentError("The option is given more than once");
  // Probably the value was forgotten, and this is the next option.
  if (text.startsWith("-")) throw new InvalidArgumentError("It looks like an option");
  return nonEmpty(text);
}

/** Parses the values of an option that may be repeated. */
export function list(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, single(text, undefined)];
}

/** Throws a one-line Error that names the file if it cannot be written, after putting back what was there before. */
export function writeFile(file: string, contents: string | Uint8Array): void {
  try {
    const restore = restorer(file);
    try {
      writeFileSync(file, contents);
    } catch (error) {
      restore();
      throw error;
    }
  } catch (error) {
    throw new Error(`cannot write ${file}: ${reasonOf(error)}`, { cause: error });
  }
}

/** Returns a function that puts back what a file has now. */
function restorer(file: string): () => void {
  const old = statSync(file, { throwIfNoEntry: false });
  // If the file is a link to one that does not exist yet, the link stays.
  if (!old) return () => existsSync(file) && rmSync(realpathSync(file));
  // A device or a pipe has nothing to put back.
  if (!old.isFile()) return () => {};
  const contents = readFileSync(file);
  return () => writeFileSync(file, contents);
}
