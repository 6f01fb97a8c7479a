/** Shows the heap of a running instance in a browser page. */
import { formatLook, STYLE } from "./html.ts";
import type { Layout } from "./layout.ts";
import { lookAt, totals, type Look, type MemorySource } from "./report.ts";
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
  element: { innerHTML: string },
  memory: MemorySource,
  { layouts, every = 500 }: LiveOptions,
): () => void {
  let last: Look = { heaps: [] };
  const timeline = watch(() => {
    last = lookAt(memory, layouts);
    return { memory: memory.buffer.byteLength, ...totals(last.heaps) };
  }, undefined);
  const draw = (): void => {
    const samples = timeline.take();
    element.innerHTML = `<style>${STYLE}</style><div class="heap">${formatLook(last, samples)}</div>`;
  };
  draw();
  const timer = setInterval(draw, every);
  return () => clearInterval(timer);
}
