import spinner from "yocto-spinner";

let shown: ReturnType<typeof spinner> | undefined;

/** Shows at a terminal what is going on now; without a text, that nothing more is. */
export function progress(text?: string): void {
  if (!process.stderr.isTTY) return;
  if (text === undefined) {
    shown?.stop();
    shown = undefined;
  } else if (shown) shown.text = text;
  else shown = spinner({ text, stream: process.stderr }).start();
}

/** Something is left out of this run, and the rest goes on. */
export function note(line: string): void {
  shown?.clear();
  process.stderr.write(`bench: ${line}\n`);
}
