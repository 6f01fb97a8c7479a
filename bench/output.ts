/** Something is left out of this run, and the rest goes on. */
export function note(line: string): void {
  process.stderr.write(`bench: ${line}\n`);
}

export function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0]!;
}
