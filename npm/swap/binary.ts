/** What Binaryen's interface for JavaScript cannot do to a module. https://webassembly.github.io/spec/core/binary/ */

const HEADER_SIZE = 8;
const MEMORY_SECTION = 5;
const HAS_MAXIMUM = 1;

/** The module with a memory of its own that starts with `pages` of 64 KiB. */
export function withInitialMemory(module: Uint8Array, pages: number): Uint8Array {
  for (let at = HEADER_SIZE; at < module.length;) {
    const [size, content] = readUnsigned(module, at + 1);
    if (module[at] === MEMORY_SECTION) {
      const [, limits] = readUnsigned(module, content); // the number of memories
      const [flags, initial] = readUnsigned(module, limits);
      const [, maximum] = readUnsigned(module, initial);
      const rest = flags & HAS_MAXIMUM ? module.subarray(maximum, content + size) : [];
      const payload = [...module.subarray(content, initial), ...unsigned(pages), ...rest];
      return Uint8Array.from([
        ...module.subarray(0, at + 1),
        ...unsigned(payload.length),
        ...payload,
        ...module.subarray(content + size),
      ]);
    }
    at = content + size;
  }
  throw new Error(
    "its memory is imported, and has no room for the new malloc's state: give it a larger initial size",
  );
}

/** An unsigned LEB128 number, and where it ends. */
function readUnsigned(bytes: Uint8Array, start: number): [value: number, end: number] {
  let value = 0;
  for (let at = start, scale = 1; ; at++, scale *= 128) {
    value += (bytes[at]! & 0x7f) * scale;
    if (bytes[at]! < 0x80) return [value, at + 1];
  }
}

function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(Math.floor(value / 128))];
}
