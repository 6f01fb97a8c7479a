/** What to do about missing files of this package. */
export const RESTORE = "run make, or reinstall the package";

/** Returns the first line of an error's message: messages from other tools can have several. */
export function reasonOf(error: unknown): string {
  // What Binaryen throws has a message, but is not an Error.
  const { message = error } = Object(error) as { readonly message?: unknown };
  return String(message).split("\n")[0]!;
}
