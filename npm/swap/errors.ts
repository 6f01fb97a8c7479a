/** The first line of what an error says. */
export function reasonOf(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split("\n")[0]!;
}
