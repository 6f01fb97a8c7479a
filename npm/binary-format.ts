/**
 * The parts of the wasm binary format that this project reads and writes: LEB128 numbers, names, sections.
 * https://webassembly.github.io/spec/core/binary/
 */

export const HEADER = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);

export const SECTION = {
  custom: 0,
  type: 1,
  import: 2,
  function: 3,
  table: 4,
  memory: 5,
  global: 6,
  export: 7,
  start: 8,
  element: 9,
  code: 10,
  data: 11,
  dataCount: 12,
} as const;

/** Flags of a table's or memory's limits. */
export const LIMITS = { hasMaximum: 1, is64Bit: 4 } as const;

/** Kinds of imports and exports. */
export const EXTERN = { function: 0, table: 1, memory: 2, global: 3 } as const;

export const FUNCREF = 0x70;
export const I32 = 0x7f;

export const OPCODE = {
  end: 0x0b,
  localGet: 0x20,
  localTee: 0x22,
  globalGet: 0x23,
  globalSet: 0x24,
  firstLoad: 0x28,
  lastLoad: 0x35,
  i32Const: 0x41,
  i64Const: 0x42,
  f32Const: 0x43,
  f64Const: 0x44,
  i32Add: 0x6a,
  i32Sub: 0x6b,
  /** add, sub, mul, ..., rotr: binary operators, which pop two numbers and push one. */
  firstI32Arithmetic: 0x6a,
  lastI32Arithmetic: 0x78,
} as const;

export interface Section {
  readonly id: number;
  /** The name of a custom section; "" for others. */
  readonly name: string;
  /** The contents; for a custom section, what follows its name. */
  readonly payload: Uint8Array;
}

/** Bytes to write: a number stands for a single byte; nested arrays are flattened in order. */
export type Bytes = number | Uint8Array | readonly Bytes[];

export function flatten(bytes: Bytes): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const visit = (part: Bytes): void => {
    if (typeof part === "number") parts.push(Uint8Array.of(part));
    else if (part instanceof Uint8Array) parts.push(part);
    else part.forEach(visit);
  };
  visit(bytes);
  return new Uint8Array(Buffer.concat(parts));
}

/** Encodes a number as unsigned LEB128, in as few bytes as possible. */
export function unsigned(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value >>> 0; ; rest >>>= 7) {
    if (rest < 0x80) return Uint8Array.of(...bytes, rest);
    bytes.push((rest & 0x7f) | 0x80);
  }
}

/** Encodes a number as signed LEB128, in as few bytes as possible. */
export function signed(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value | 0; ; rest >>= 7) {
    if (rest >= -0x40 && rest < 0x40) return Uint8Array.of(...bytes, rest & 0x7f);
    bytes.push((rest & 0x7f) | 0x80);
  }
}

/** Encodes a number as LEB128, padded to five bytes so that a linker can overwrite it with any other. */
export function padded(value: number): Uint8Array {
  const byte = (shift: number): number => ((value >>> shift) & 0x7f) | 0x80;
  return Uint8Array.of(byte(0), byte(7), byte(14), byte(21), (value >>> 28) & 0x7f);
}

/** Encodes a name: its length in bytes, then its UTF-8. */
export function text(value: string): Bytes {
  const bytes = new TextEncoder().encode(value);
  return [unsigned(bytes.length), bytes];
}

/** Encodes a vector: the number of items, then the items. */
export function vector(items: readonly Bytes[]): Bytes {
  return [unsigned(items.length), items];
}

/** Returns a vector, given as encoded, with one more item. */
export function appended(items: Uint8Array, item: Bytes): Bytes {
  const read = reader(items);
  const count = read.u32();
  return [unsigned(count + 1), items.subarray(read.position()), item];
}

export function section(id: number, payload: Bytes): Bytes {
  const bytes = flatten(payload);
  return [id, unsigned(bytes.length), bytes];
}

export function customSection(name: string, payload: Bytes): Bytes {
  return section(SECTION.custom, [text(name), payload]);
}

/** Without `ignoreBOM`, decoding would drop a byte order mark at the start of a name. */
const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Returns a reader of the numbers and names in `bytes` from `start` on. It throws a RangeError past their end. */
export function reader(bytes: Uint8Array, start = 0) {
  let at = start;
  const byte = (): number => {
    const value = bytes[at++];
    if (value === undefined) throw new RangeError("the wasm module is truncated");
    return value;
  };
  /** Reads a LEB128 number. Returns its low 32 bits and the number of bits that were encoded. */
  const leb = (): [number, number] => {
    let value = 0;
    for (let shift = 0; ;) {
      const next = byte();
      if (shift < 32) value |= (next & 0x7f) << shift;
      shift += 7;
      if (next < 0x80) return [value, shift];
    }
  };
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) throw new RangeError("the wasm module is truncated");
    at += length;
    return bytes.subarray(at - length, at);
  };
  const read = {
    position: () => at,
    done: () => at >= bytes.length,
    byte,
    leb,
    take,
    u32: () => leb()[0] >>> 0,
    i32: () => {
      const [value, bits] = leb();
      return bits < 32 ? (value << (32 - bits)) >> (32 - bits) : value;
    },
    text: () => UTF8.decode(take(read.u32())),
    vector: <Item>(item: () => Item): Item[] => Array.from({ length: read.u32() }, item),
  };
  return read;
}

/** Returns the sections of a module or an object file, in order. */
export function readSections(module: Uint8Array): Section[] {
  if (!HEADER.every((byte, index) => module[index] === byte)) throw new Error("not a wasm module");
  const read = reader(module, HEADER.length);
  const sections: Section[] = [];
  while (!read.done()) {
    const id = read.byte();
    const content = read.take(read.u32());
    if (id !== SECTION.custom) {
      sections.push({ id, name: "", payload: content });
    } else {
      const custom = reader(content);
      sections.push({ id, name: custom.text(), payload: content.subarray(custom.position()) });
    }
  }
  return sections;
}

/** Returns the payload of the section with that id, or an empty vector if there is none. */
export function payloadOf(sections: readonly Section[], id: number): Uint8Array {
  return sections.find((each) => each.id === id)?.payload ?? unsigned(0);
}

/** Returns the module with the payload of the section with that id changed, if there is such a section. */
export function withSection(
  module: Uint8Array,
  id: number,
  change: (payload: Uint8Array) => Bytes,
): Uint8Array<ArrayBuffer> {
  const sections = readSections(module).map((each) =>
    each.id === SECTION.custom
      ? customSection(each.name, each.payload)
      : section(each.id, each.id === id ? change(each.payload) : each.payload),
  );
  return flatten([HEADER, sections]);
}

export interface Import {
  readonly module: string;
  readonly name: string;
  readonly kind: number;
  /** The function's type index; 0 for other kinds. */
  readonly type: number;
  /** The flags of the table's or memory's limits; 0 for other kinds. */
  readonly limits: number;
}

/** Reads the limits of a table or memory. Returns their flags. */
function readLimits(read: ReturnType<typeof reader>): number {
  const flags = read.byte();
  read.leb();
  if (flags & LIMITS.hasMaximum) read.leb();
  return flags;
}

export function readImports(payload: Uint8Array): Import[] {
  const read = reader(payload);
  return read.vector(() => {
    const module = read.text();
    const name = read.text();
    const kind = read.byte();
    let type = 0;
    let limits = 0;
    if (kind === EXTERN.function) {
      type = read.u32();
    } else if (kind === EXTERN.global) {
      read.take(2); // value type, mutability
    } else {
      if (kind === EXTERN.table) read.byte(); // element type
      limits = readLimits(read);
    }
    return { module, name, kind, type, limits };
  });
}

/** Returns the flags of the limits of each memory that a module imports or defines. */
export function readMemories(sections: readonly Section[]): number[] {
  const imports = readImports(payloadOf(sections, SECTION.import));
  const imported = imports.flatMap(({ kind, limits }) => (kind === EXTERN.memory ? [limits] : []));
  const read = reader(payloadOf(sections, SECTION.memory));
  return [...imported, ...read.vector(() => readLimits(read))];
}

export interface Global {
  /** Type, mutability and initial value, as encoded in the section. */
  readonly bytes: Uint8Array;
  /** The value of an i32 constant; undefined for any other initial value. */
  readonly value: number | undefined;
}

export function readGlobals(payload: Uint8Array): Global[] {
  const read = reader(payload);
  return read.vector(() => {
    const start = read.position();
    read.take(2); // value type, mutability
    const opcode = read.byte();
    let value: number | undefined;
    if (opcode === OPCODE.i32Const) value = read.i32();
    else if (opcode === OPCODE.f32Const) read.take(4);
    else if (opcode === OPCODE.f64Const) read.take(8);
    else if (opcode === OPCODE.i64Const || opcode === OPCODE.globalGet) read.leb();
    else throw new Error(`a global's initial value starts with opcode ${opcode}, which is not supported`);
    read.byte(); // end
    return { bytes: payload.subarray(start, read.position()), value };
  });
}

export interface Export {
  readonly name: string;
  readonly kind: number;
  readonly index: number;
}

export function readExports(payload: Uint8Array): Export[] {
  const read = reader(payload);
  return read.vector(() => ({ name: read.text(), kind: read.byte(), index: read.u32() }));
}

/** Returns the module with each export under the names that `namesOf` returns; none removes the export. */
export function withExports(
  module: Uint8Array,
  namesOf: (each: Export) => readonly string[],
): Uint8Array<ArrayBuffer> {
  return withSection(module, SECTION.export, (payload) =>
    vector(
      readExports(payload).flatMap((each) =>
        namesOf(each).map((name) => [text(name), each.kind, unsigned(each.index)]),
      ),
    ),
  );
}

/** The custom section with names, and its part with those of functions. */
export const NAME_SECTION = "name";
export const FUNCTION_NAMES = 1;

/** Returns the function names in the `name` section, by function index. */
export function readFunctionNames(sections: readonly Section[]): Map<number, string> {
  const names = sections.find(({ id, name }) => id === SECTION.custom && name === NAME_SECTION);
  const read = reader(names?.payload ?? new Uint8Array());
  while (!read.done()) {
    const subsection = read.byte();
    const content = reader(read.take(read.u32()));
    if (subsection === FUNCTION_NAMES) {
      return new Map(content.vector(() => [content.u32(), content.text()]));
    }
  }
  return new Map();
}

/** Returns the value of an immutable i32 global that a module exports. Throws an Error if there is none. */
export function exportedConstant(module: Uint8Array, name: string): number {
  const sections = readSections(module);
  const payload = (id: number) => payloadOf(sections, id);
  const found = readExports(payload(SECTION.export)).find(
    (item) => item.name === name && item.kind === EXTERN.global,
  );
  const imported = readImports(payload(SECTION.import)).filter(({ kind }) => kind === EXTERN.global).length;
  const value = found && readGlobals(payload(SECTION.global))[found.index - imported]?.value;
  if (value === undefined) throw new Error(`the module exports no constant ${name}`);
  return value;
}
