/** The part of the inspector that runs in any engine: reading a memory, and formatting reports. */
export { largeSizes, type LargeSize } from "./large.ts";
export type { Layout } from "./layout.ts";
export type { LeakReport, LeakSite } from "./leaks.ts";
export { readHeaps, type BinReport, type HeapReport, type Region } from "./reader.ts";
export {
  describeEnd,
  lookAt,
  totals,
  type End,
  type Look,
  type MemorySource,
  type RunReport,
  type Sample,
} from "./report.ts";
export { formatHtml, formatHeap, formatLook, formatMap, formatTimeline, STYLE } from "./html.ts";
export { showHeap, type LiveOptions } from "./live.ts";
export { formatSample, formatText } from "./text.ts";
export type { Every } from "./timeline.ts";
