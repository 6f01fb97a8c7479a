/** What every command here has in common: where the project is, and how it ends when something is missing. */
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The project's folder. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** Something that the user can mend: the message says in one line what is wrong and what to do. */
export class UserError extends Error {}

/** A path as the user sees it: relative to the project where it is inside, absolute elsewhere. */
export function displayPath(file: string): string {
  const relative = path.relative(ROOT, path.resolve(ROOT, file));
  return relative.startsWith("..") ? path.resolve(ROOT, file) : relative;
}

/** Runs a command's body. What the user can mend ends it with one line, anything else with the stack. */
export async function runCommand(body: () => Promise<void> | void): Promise<void> {
  try {
    await body();
  } catch (error) {
    console.error(error instanceof UserError ? error.message : error);
    process.exitCode = 1;
  }
}
