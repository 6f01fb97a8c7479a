/** The first line of what an error says. Other tools than ours write several. */
export function reasonOf(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split("\n")[0]!;
}
