/** Returns the first line of an error's message: messages from other tools can have several. */
export function reasonOf(error: unknown): string {
  // What Binaryen throws has a message, but is not an Error.
  const { message = error } = Object(error) as { readonly message?: unknown };
  return String(message).split("\n")[0]!;
}
