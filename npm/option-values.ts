/** What the options and arguments of the command take for their values. */
import { InvalidArgumentError } from "commander";

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
