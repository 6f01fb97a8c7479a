/** What is shown on the terminal during a run: progress, and notes on what is left out. */
import spinner from "yocto-spinner";

let shown: ReturnType<typeof spinner> | undefined;

/** Shows at a terminal what is being done. Without a text, removes that display. */
export function progress(text?: string): void {
  if (!process.stderr.isTTY) return;
  if (text === undefined) {
    shown?.stop();
    shown = undefined;
  } else if (shown) shown.text = text;
  else shown = spinner({ text, stream: process.stderr }).start();
}

/** Prints a line on standard error; used for what is left out of a run that goes on. */
export function note(line: string): void {
  shown?.clear();
  process.stderr.write(`bench: ${line}\n`);
}
