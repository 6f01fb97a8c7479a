/** Shows the heap of a running instance in a web page. */
import { formatLook, STYLE } from "./html.ts";
import type { Layout } from "./layout.ts";
import { lookAt, totals, type Look, type MemorySource } from "./report.ts";
import { watch } from "./timeline.ts";

export interface LiveOptions {
  readonly layouts: readonly Layout[];
  /** Milliseconds between samples, 500 by default. */
  readonly every?: number;
}

/**
 * Draws the heaps of `memory` in `element`, now and at intervals. The instance is unchanged and pays nothing. Returns a
 * function that stops this.
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
