/** Formats numbers for people to read. */

const UNITS = ["B", "KiB", "MiB", "GiB"];

/** Formats bytes with a unit and about three digits: "12.3 KiB". */
export function formatBytes(bytes: number): string {
  const unit = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), UNITS.length - 1);
  const value = bytes / 1024 ** unit;
  return `${unit === 0 ? value : value.toFixed(value < 100 ? 1 : 0)} ${UNITS[unit]}`;
}

/** Formats the size of whole pages exactly, so that no two sizes look alike: "12,346 KiB". */
export function formatKiB(bytes: number): string {
  return `${formatCount(bytes / 1024)} KiB`;
}

export function formatCount(count: number): string {
  return count.toLocaleString("en");
}

export function plural(count: number, what: string): string {
  return `${formatCount(count)} ${what}${count === 1 ? "" : "s"}`;
}

export function formatTime(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(1)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

export function formatShare(part: number, whole: number): string {
  return whole === 0 ? "" : `${((100 * part) / whole).toFixed(0)} %`;
}

export function formatAddress(address: number): string {
  return `0x${(address >>> 0).toString(16)}`;
}
