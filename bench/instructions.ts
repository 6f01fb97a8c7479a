/**
 * Makes a module count the instructions that it executes, a measure that depends on neither the engine nor the machine.
 * Each stretch of code without branches adds its length to a counter, a global that the module exports.
 */
import {
  EXTERN,
  HEADER,
  I32,
  OPCODE,
  SECTION,
  appended,
  flatten,
  payloadOf,
  reader,
  readExports,
  readImports,
  readSections,
  section,
  signed,
  text,
  unsigned,
  vector,
  type Bytes,
} from "../npm/binary-format.ts";

/** The name of the exported counter, a mutable i32. */
export const COUNTER = "instructions";

/** log2 of the bytes for which memory.copy and memory.fill count one instruction: 16, the width of a vector register. */
const BULK_SHIFT = 4;

const OP = {
  ...OPCODE,
  block: 0x02,
  loop: 0x03,
  if: 0x04,
  else: 0x05,
  brTable: 0x0e,
  returnCallIndirect: 0x13,
  selectTyped: 0x1c,
  i32ShrU: 0x76,
  prefixFc: 0xfc,
  prefixFd: 0xfd,
} as const;

/** Instructions that do nothing and are not counted: they mark places in the code. */
const MARKS: ReadonlySet<number> = new Set([OP.block, OP.loop, OP.else, OP.end, 0x01 /* nop */]);

/** The next instruction may be reached from elsewhere, or not at all. (Not if a call traps, but then the count is void.) */
const ENDS_STRETCH: ReadonlySet<number> = new Set([
  OP.block,
  OP.loop,
  OP.if,
  OP.else,
  OP.end,
  0x00 /* unreachable */,
  0x0c /* br */,
  0x0d /* br_if */,
  OP.brTable,
  0x0f /* return */,
  0x10 /* call */,
  0x11 /* call_indirect */,
  0x12 /* return_call */,
  OP.returnCallIndirect,
]);

/** Number of LEB128 immediates, for opcodes without other immediates. Opcodes below 0xfc that are not listed have none. */
const IMMEDIATES: Readonly<Record<number, number>> = {
  [OP.block]: 1,
  [OP.loop]: 1,
  [OP.if]: 1,
  0x0c: 1,
  0x0d: 1,
  0x10: 1,
  0x11: 2,
  0x12: 1,
  [OP.returnCallIndirect]: 2,
  ...range(0x20, 0x26, 1),
  ...range(0x28, 0x3e, 2),
  0x3f: 1,
  0x40: 1,
  0x41: 1,
  0x42: 1,
};

/** The same for the opcodes after the prefix 0xfc: first saturating conversions, then instructions on memory and tables. */
const FC_IMMEDIATES = [0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1];
const FC_MEMORY_COPY = 10;
const FC_MEMORY_FILL = 11;

function range(from: number, to: number, value: number): Record<number, number> {
  return Object.fromEntries(Array.from({ length: to - from + 1 }, (_, i) => [from + i, value]));
}

/** Returns the module with counting added, except to the functions exported under the names in `without`. */
export function countInstructions(module: Uint8Array, without: readonly string[]): Uint8Array {
  const sections = readSections(module);
  const payload = (id: number): Uint8Array => payloadOf(sections, id);

  const types = readTypes(payload(SECTION.type));
  const imports = readImports(payload(SECTION.import));
  const imported = (kind: number): number => imports.filter((i) => i.kind === kind).length;
  const functionTypes = indices(payload(SECTION.function));
  const counter = imported(EXTERN.global) + reader(payload(SECTION.global)).u32();
  const exempt = new Set(
    readExports(payload(SECTION.export))
      .filter(({ name, kind }) => kind === EXTERN.function && without.includes(name))
      .map(({ index }) => index - imported(EXTERN.function)),
  );

  const code = reader(payload(SECTION.code));
  let index = 0;
  const bodies = code.vector(() => {
    const body = code.take(code.u32());
    const own = index++;
    if (exempt.has(own)) return [unsigned(body.length), body];
    const counted = flatten(countBody(body, types[functionTypes[own]!]!, counter));
    return [unsigned(counted.length), counted];
  });

  const MUTABLE = 1;
  const changed: Record<number, Bytes> = {
    [SECTION.global]: appended(payload(SECTION.global), [I32, MUTABLE, OP.i32Const, 0, OP.end]),
    [SECTION.export]: appended(payload(SECTION.export), [text(COUNTER), EXTERN.global, unsigned(counter)]),
    [SECTION.code]: vector(bodies),
  };
  // The module may have no globals, and thus no section for them.
  const ids = sections.map(({ id }) => id).filter((id) => id !== SECTION.custom && id !== SECTION.global);
  ids.splice(ids.indexOf(SECTION.export), 0, SECTION.global);
  return flatten([HEADER, ids.map((id) => section(id, changed[id] ?? payload(id)))]);
}

/** Returns the number of parameters of each type. */
function readTypes(types: Uint8Array): number[] {
  const read = reader(types);
  return read.vector(() => {
    read.byte();
    const parameters = read.take(read.u32()).length;
    read.take(read.u32());
    return parameters;
  });
}

function indices(functions: Uint8Array): number[] {
  const read = reader(functions);
  return read.vector(read.u32);
}

function countBody(body: Uint8Array, parameters: number, counter: number): Bytes {
  const read = reader(body);
  let locals = parameters;
  const groups = read.vector(() => {
    const count = read.u32();
    locals += count;
    return [unsigned(count), read.byte()] as Bytes;
  });
  const scratch = locals;

  const output: Bytes[] = [];
  let stretch: Bytes[] = [];
  let length = 0;
  const add = (amount: Bytes): Bytes => [
    [OP.globalGet, unsigned(counter), amount],
    [OP.i32Add, OP.globalSet, unsigned(counter)],
  ];
  const endStretch = (): void => {
    if (length > 0) output.push(add([OP.i32Const, signed(length)]));
    output.push(stretch);
    stretch = [];
    length = 0;
  };

  while (!read.done()) {
    const start = read.position();
    const opcode = read.byte();
    const bulk = skipImmediates(read, opcode);
    if (bulk) {
      const blocks = [OP.localGet, unsigned(scratch), OP.i32Const, BULK_SHIFT, OP.i32ShrU];
      stretch.push([OP.localTee, unsigned(scratch)], add(blocks));
    }
    stretch.push(body.subarray(start, read.position()));
    if (!MARKS.has(opcode)) length++;
    if (ENDS_STRETCH.has(opcode)) endStretch();
  }
  endStretch();
  return [vector([...groups, [unsigned(1), I32]]), output];
}

/** Skips an instruction's immediates. Returns whether its work grows with the length that is on top of the stack. */
function skipImmediates(read: ReturnType<typeof reader>, opcode: number): boolean {
  if (opcode === OP.brTable) {
    read.vector(read.u32);
    read.u32();
  } else if (opcode === OP.selectTyped) read.take(read.u32());
  else if (opcode === OP.f32Const) read.take(4);
  else if (opcode === OP.f64Const) read.take(8);
  else if (opcode === OP.prefixFc) {
    const minor = read.u32();
    for (let i = FC_IMMEDIATES[minor]!; i > 0; i--) read.u32();
    return minor === FC_MEMORY_COPY || minor === FC_MEMORY_FILL;
  } else if (opcode === OP.prefixFd) skipVector(read, read.u32());
  else if (opcode > OP.prefixFc) throw new Error("cannot count instructions of programs with threads");
  else for (let i = IMMEDIATES[opcode] ?? 0; i > 0; i--) read.leb();
  return false;
}

/** Skips a vector instruction's immediates: a memory argument, a constant, or lane numbers of one byte each. */
function skipVector(read: ReturnType<typeof reader>, minor: number): void {
  const isLane = minor >= 0x54 && minor <= 0x5b;
  if (minor <= 0x0b || (minor >= 0x54 && minor <= 0x5d)) {
    read.u32();
    read.u32();
  }
  if (minor === 0x0c || minor === 0x0d) read.take(16);
  else if (isLane || (minor >= 0x15 && minor <= 0x22)) read.take(1);
}
