/** How commands read their lines, and answer those that make no sense with one line. */
import { Command, InvalidArgumentError } from "commander";

/** A command without options. `help` is the line that tells all of them. */
export function newCommand(name: string, help: string): Command {
  return (
    new Command(name)
      .enablePositionalOptions()
      .showSuggestionAfterError(false)
      // What is shown after an error ends its line.
      .configureOutput({ outputError: (text, write) => write(text.replace(/^error/, name).trimEnd()) })
      .showHelpAfterError(`; see ${help}`)
  );
}

export function nonEmpty(text: string): string {
  if (text === "") throw new InvalidArgumentError("It is empty");
  return text;
}

/** The value of an option that is given once. */
export function single(text: string, previous: unknown): string {
  if (previous !== undefined) throw new InvalidArgumentError("The option is given more than once");
  // The option that follows one whose value was forgotten.
  if (text.startsWith("-")) throw new InvalidArgumentError("It looks like an option");
  return nonEmpty(text);
}

/** The values of an option that can be given more than once. */
export function list(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, single(text, undefined)];
}
