/** What all commands share: where the project is, and how to report what the user can fix. */
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The project's folder. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url));

/** An error that the user can fix. The message is one line that says what is wrong and what to do. */
export class UserError extends Error {}

/** Returns a path as messages show it: relative inside the project's folder, otherwise absolute. */
export function displayPath(file: string): string {
  const relative = path.relative(ROOT, path.resolve(ROOT, file));
  return relative.startsWith("..") ? path.resolve(ROOT, file) : relative;
}

/** Runs a command. If it fails, sets exit code 1 and prints a UserError as one line, any other error with its stack. */
export async function runCommand(body: () => Promise<void> | void): Promise<void> {
  try {
    await body();
  } catch (error) {
    console.error(error instanceof UserError ? error.message : error);
    process.exitCode = 1;
  }
}
