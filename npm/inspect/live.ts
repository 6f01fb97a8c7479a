/** Shows the heap of a running instance in a browser page. */
import { formatHeap, formatTimeline, STYLE } from "./html.ts";
import type { Layout } from "./layout.ts";
import { readHeaps } from "./reader.ts";
import { totals } from "./report.ts";
import { watch } from "./timeline.ts";

export interface LiveOptions {
  readonly layouts: readonly Layout[];
  /** Milliseconds from one look to the next, 500 by default. */
  readonly every?: number;
}

/**
 * Draws the heaps of `memory` in `element`, now and every so often. The instance needs nothing for it and pays nothing.
 * Returns the function that ends it.
 */
export function showHeap(
  element: Element,
  memory: WebAssembly.Memory,
  { layouts, every = 500 }: LiveOptions,
): () => void {
  const read = () => readHeaps(memory.buffer, layouts);
  const timeline = watch(() => ({ memory: memory.buffer.byteLength, ...totals(read()) }), undefined);
  const draw = (): void => {
    const parts = [formatTimeline(timeline.take()), ...read().map(formatHeap)];
    element.innerHTML = `<style>${STYLE}</style><div class="heap">${parts.join("\n")}</div>`;
  };
  draw();
  const timer = setInterval(draw, every);
  return () => clearInterval(timer);
}
