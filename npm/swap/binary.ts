/**
 * Small changes to a module's bytes, where reading and writing all of it would take its time.
 * https://webassembly.github.io/spec/core/binary/
 */

const HEADER_SIZE = 8;
const SECTION = { memory: 5, export: 7 } as const;

/** The module with only those exports that `keeps` says. */
export function withExports(module: Uint8Array, keeps: (name: string) => boolean): Uint8Array<ArrayBuffer> {
  return withSection(module, SECTION.export, (payload) => {
    let [count, at] = readUnsigned(payload, 0);
    const kept: Uint8Array[] = [];
    for (; count > 0; count--) {
      const start = at;
      const [length, name] = readUnsigned(payload, at);
      const kind = name + length;
      [, at] = readUnsigned(payload, kind + 1);
      if (keeps(new TextDecoder().decode(payload.subarray(name, kind))))
        kept.push(payload.subarray(start, at));
    }
    return Buffer.concat([unsigned(kept.length), ...kept]);
  });
}

/** The module with another initial size of the memory that it defines, in pages of 64 KiB. */
export function withInitialMemory(
  module: Uint8Array,
  change: (pages: number) => number,
): Uint8Array<ArrayBuffer> {
  return withSection(module, SECTION.memory, (payload) => {
    const [, flags] = readUnsigned(payload, 0); // the number of memories
    const initial = flags + 1;
    const [pages, maximum] = readUnsigned(payload, initial);
    return Buffer.concat([payload.subarray(0, initial), unsigned(change(pages)), payload.subarray(maximum)]);
  });
}

function withSection(
  module: Uint8Array,
  id: number,
  change: (payload: Uint8Array) => Uint8Array,
): Uint8Array<ArrayBuffer> {
  const parts = [module.subarray(0, HEADER_SIZE)];
  for (let at = HEADER_SIZE; at < module.length;) {
    const [size, content] = readUnsigned(module, at + 1);
    const end = content + size;
    if (module[at] === id) {
      const payload = change(module.subarray(content, end));
      parts.push(Uint8Array.of(id), unsigned(payload.length), payload);
    } else {
      parts.push(module.subarray(at, end));
    }
    at = end;
  }
  return new Uint8Array(Buffer.concat(parts));
}

/** An unsigned LEB128 number, and where it ends. */
function readUnsigned(bytes: Uint8Array, start: number): [value: number, end: number] {
  let value = 0;
  for (let at = start, scale = 1; ; at++, scale *= 128) {
    value += (bytes[at]! & 0x7f) * scale;
    if (bytes[at]! < 0x80) return [value, at + 1];
  }
}

function unsigned(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes.push((rest & 0x7f) | 0x80);
  return Uint8Array.of(...bytes, rest);
}
