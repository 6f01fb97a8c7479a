/** Returns the first line of an error's message: messages from other tools can have several. */
export function reasonOf(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split("\n")[0]!;
}
