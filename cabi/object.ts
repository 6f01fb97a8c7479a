/**
 * Makes an LLVM object file out of a wasm module, so that a linker takes it for compiled C.
 *
 * The input is a module as written by wabt's `toBinary({ relocatable: true })`: every index in its code takes five
 * bytes and is listed in a `reloc.Code` section. docs/object-format.md tells how it is transformed. The format and the
 * terms used here are those of https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md.
 */
import {
  EXTERN,
  FUNCREF,
  HEADER,
  I32,
  OPCODE,
  SECTION,
  customSection,
  flatten,
  padded,
  payloadOf,
  readExports,
  readFunctionNames,
  readGlobals,
  readImports,
  readSections,
  reader,
  section,
  signed,
  text,
  unsigned,
  vector,
  type Bytes,
  type Export,
  type Global,
  type Import,
} from "../npm/binary-format.ts";
import { UserError } from "../tools/command.ts";

/** A symbol that other objects can refer to. */
export interface PublicSymbol {
  readonly name: string;
  /** Whether another object's strong definition of the name overrides this one. */
  readonly weak?: boolean;
}

/** What an imported immutable i32 global stands for: the address of data, or of a function. */
export type Address =
  /**
   * Zeroed memory that this object defines. `size` and `alignment`, a power of two, are in bytes. Whatever the code
   * adds to this address to load from must lead to a higher address, because the sum may become the offset of the load,
   * and an offset, unlike a sum, does not wrap at 4 GiB.
   */
  | { readonly kind: "bss"; readonly size: number; readonly alignment: number }
  /** A zero-terminated UTF-8 string that this object defines. */
  | { readonly kind: "text"; readonly text: string }
  /** A variable that another object or the linker defines (`__heap_base`). An undefined weak one has address 0. */
  | { readonly kind: "data"; readonly symbol: string; readonly weak?: boolean }
  /** The table index of a function that the core imports or exports by this name; 0 for an undefined weak one. */
  | { readonly kind: "function"; readonly symbol: string };

export interface ObjectDescription {
  /**
   * The public symbols of each exported function, by the export's name. Calls inside the object use the first, if it is
   * strong.
   */
  readonly functions: ReadonlyMap<string, readonly PublicSymbol[]>;
  /** What each imported global stands for, by the import's name. */
  readonly addresses: ReadonlyMap<string, Address>;
  /** The imported functions that may stay undefined. A call to one that is undefined traps. */
  readonly weakFunctions?: ReadonlySet<string>;
  /** Returns the symbol's name for a function that is local to this object, from its name in the module. */
  readonly localName?: (name: string) => string;
  /** The wasm features that the code uses, as LLVM names them. */
  readonly features: readonly string[];
  /** The features that a program with this code must not use. */
  readonly forbidden?: readonly string[];
  /** Whether the code may be linked into a module whose address in memory is only known when it is loaded. */
  readonly positionIndependent?: boolean;
}

const RELOCATION = {
  functionIndex: 0,
  tableIndexSigned: 1,
  memoryAddress: 3,
  memoryAddressSigned: 4,
  typeIndex: 6,
  globalIndex: 7,
} as const;

const SYMBOL_KIND = { function: 0, data: 1, global: 2, table: 5 } as const;
const FLAG = {
  weak: 0x01,
  local: 0x02,
  hidden: 0x04,
  undefined: 0x10,
  explicitName: 0x40,
  noStrip: 0x80,
} as const;
const LINKING_VERSION = 2;
const SUBSECTION = { segmentInfo: 5, symbolTable: 8 } as const;

/**
 * The sections that the input may have. Others (a start function, tables, data at fixed addresses) do not fit an
 * object.
 */
const SECTIONS_UNDERSTOOD: readonly number[] = [
  SECTION.custom,
  SECTION.type,
  SECTION.import,
  SECTION.function,
  SECTION.global,
  SECTION.export,
  SECTION.code,
];

/** Returns the object file. Throws a UserError if the module has anything that does not fit into it. */
export function writeObject(bytes: Uint8Array, description: ObjectDescription): Uint8Array {
  const module = readModule(bytes);
  const symbols = symbolTable();
  const functions = addFunctions(module, description, symbols);
  const { targets, segments } = addAddresses(module, description, symbols, functions);
  const needsTable = targets.some(({ kind }) => kind === "function");
  if (needsTable) symbols.add(SYMBOL_KIND.table, FLAG.undefined | FLAG.noStrip, unsigned(0));
  const { positionIndependent = false } = description;
  const { code, globals, relocations } = relocate(module, symbols, functions, targets, positionIndependent);
  const offsets = positionIndependent ? targets : [];

  const beforeCode = [
    section(SECTION.type, module.types),
    section(SECTION.import, importSection(module.importedFunctions, needsTable, offsets)),
    section(SECTION.function, module.functions),
    ...(globals.length > 0 ? [section(SECTION.global, vector(globals))] : []),
  ];
  return flatten([
    HEADER,
    beforeCode,
    section(SECTION.code, code),
    segments.length > 0 ? section(SECTION.data, vector(placeSegments(segments))) : [],
    customSection("linking", [
      unsigned(LINKING_VERSION),
      section(SUBSECTION.symbolTable, vector(symbols.entries)),
      section(SUBSECTION.segmentInfo, vector(segments.map(segmentInfo))),
    ]),
    customSection("reloc.CODE", [unsigned(beforeCode.length), vector(relocations)]),
    customSection("target_features", features(description)),
  ]);
}

function features({ features, forbidden = [] }: ObjectDescription): Bytes {
  const USED = "+".charCodeAt(0);
  const FORBIDDEN = "-".charCodeAt(0);
  return vector([
    ...features.map((name) => [USED, text(name)]),
    ...forbidden.map((name) => [FORBIDDEN, text(name)]),
  ]);
}

interface Module {
  // Payloads of sections that go into the object unchanged.
  readonly types: Uint8Array;
  readonly functions: Uint8Array;
  readonly functionCount: number;
  readonly importedFunctions: readonly Import[];
  readonly importedGlobals: readonly Import[];
  readonly globals: readonly Global[];
  readonly exportedFunctions: readonly Export[];
  readonly names: ReadonlyMap<number, string>;
  readonly code: Uint8Array;
  /** The indices in the code: the relocation type and the offset of each. */
  readonly indices: readonly { readonly type: number; readonly offset: number }[];
}

function readModule(bytes: Uint8Array): Module {
  const sections = readSections(bytes);
  const unfit = sections.find(({ id }) => !SECTIONS_UNDERSTOOD.includes(id));
  if (unfit) {
    const name = Object.entries(SECTION).find(([, id]) => id === unfit.id)?.[0] ?? unfit.id;
    throw new UserError(
      `the core has a ${name} section, which an object cannot: look for what causes it in src/`,
    );
  }
  const NO_RELOCATIONS = Uint8Array.of(0, 0);
  const payload = (id: number): Uint8Array => payloadOf(sections, id);
  const custom = (name: string) => sections.find((s) => s.id === SECTION.custom && s.name === name)?.payload;
  if (custom("linking") === undefined)
    throw new UserError("the module is not relocatable: make it so with wabt");
  const imports = readImports(payload(SECTION.import));
  return {
    types: payload(SECTION.type),
    functions: payload(SECTION.function),
    functionCount: reader(payload(SECTION.function)).u32(),
    importedFunctions: imports.filter(({ kind }) => kind === EXTERN.function),
    importedGlobals: imports.filter(({ kind }) => kind === EXTERN.global),
    globals: readGlobals(payload(SECTION.global)),
    exportedFunctions: readExports(payload(SECTION.export)).filter(({ kind }) => kind === EXTERN.function),
    names: readFunctionNames(sections),
    code: payload(SECTION.code),
    indices: readRelocations(custom("reloc.Code") ?? NO_RELOCATIONS),
  };
}

function readRelocations(payload: Uint8Array): { type: number; offset: number }[] {
  const read = reader(payload);
  read.u32(); // the section that the entries apply to: the code
  return read.vector(() => {
    const type = read.byte();
    const offset = read.u32();
    read.u32(); // the target, as a symbol of wabt's own table
    return { type, offset };
  });
}

interface SymbolTable {
  readonly entries: Bytes[];
  /** Adds a symbol and returns its index. `rest` is what a symbol of its kind has after the flags. */
  add(kind: number, flags: number, ...rest: Bytes[]): number;
  addLocal(kind: number, index: number, name: string): number;
}

function symbolTable(): SymbolTable {
  const entries: Bytes[] = [];
  const add = (kind: number, flags: number, ...rest: Bytes[]): number =>
    entries.push([kind, unsigned(flags), rest]) - 1;
  const addLocal = (kind: number, index: number, name: string): number =>
    add(kind, FLAG.local | FLAG.hidden, unsigned(index), text(name));
  return { entries, add, addLocal };
}

/** Adds the functions' symbols. Returns the one that calls inside the object refer to, by function index. */
function addFunctions(module: Module, description: ObjectDescription, symbols: SymbolTable): number[] {
  // Two exports can share a function: the compiler merges functions with identical code.
  const publicSymbols = new Map<number, PublicSymbol[]>();
  const missing = new Set(description.functions.keys());
  for (const { name, index } of module.exportedFunctions) {
    const named = description.functions.get(name);
    if (named === undefined)
      throw new UserError(`nothing says what public names the core's export ${name} has`);
    missing.delete(name);
    publicSymbols.set(index, [...(publicSymbols.get(index) ?? []), ...named]);
  }
  if (missing.size > 0) throw new UserError(`the core does not export ${[...missing].join(", ")}`);

  const imported = module.importedFunctions.map(({ module: from, name }, index) => {
    const weak = description.weakFunctions?.has(name) ? FLAG.weak : 0;
    const flags = FLAG.undefined | weak;
    if (from === "env") return symbols.add(SYMBOL_KIND.function, flags, unsigned(index));
    // The host defines it, not another object: the program imports it. The symbol is named as in wasi-libc.
    const symbol = text(`__imported_${from}_${name}`);
    return symbols.add(SYMBOL_KIND.function, flags | FLAG.explicitName, unsigned(index), symbol);
  });
  const defined = Array.from({ length: module.functionCount }, (_, position) => {
    const index = imported.length + position;
    const named = publicSymbols.get(index) ?? [];
    const [first] = named.map(({ name, weak }) =>
      symbols.add(SYMBOL_KIND.function, weak ? FLAG.weak : 0, unsigned(index), text(name)),
    );
    // A weak symbol may be overridden by the program's own definition, which this object's calls must not reach.
    if (first !== undefined && !named[0]!.weak) return first;
    const name = module.names.get(index) ?? `function${index}`;
    return symbols.addLocal(SYMBOL_KIND.function, index, description.localName?.(name) ?? name);
  });
  return [...imported, ...defined];
}

interface Segment {
  readonly name: string;
  readonly contents: Uint8Array;
  readonly alignment: number;
}

/** What an imported global stands for. */
interface Target {
  readonly kind: Address["kind"];
  readonly name: string;
  readonly symbol: number;
}

function addAddresses(
  module: Module,
  description: ObjectDescription,
  symbols: SymbolTable,
  functions: readonly number[],
): { targets: Target[]; segments: Segment[] } {
  const segments: Segment[] = [];
  const dataSymbol = (address: Exclude<Address, { kind: "function" }>, name: string): number => {
    if (address.kind === "data") {
      const weak = address.weak ? FLAG.weak : 0;
      return symbols.add(SYMBOL_KIND.data, FLAG.undefined | weak, text(address.symbol));
    }
    const added: Segment =
      address.kind === "bss"
        ? { name: `.bss.${name}`, contents: new Uint8Array(address.size), alignment: address.alignment }
        : {
            name: `.rodata.${name}`,
            contents: new TextEncoder().encode(`${address.text}\0`),
            alignment: 1,
          };
    const segment = segments.push(added) - 1;
    const START = 0;
    const place = [segment, START, added.contents.length].map(unsigned);
    return symbols.add(SYMBOL_KIND.data, FLAG.local | FLAG.hidden, text(name), place);
  };
  const targets = module.importedGlobals.map(({ name }): Target => {
    const address = description.addresses.get(name);
    if (address === undefined)
      throw new UserError(`nothing says what the imported global ${name} stands for`);
    const known = { kind: address.kind, name: "symbol" in address ? address.symbol : name };
    if (address.kind !== "function") return { ...known, symbol: dataSymbol(address, name) };
    const isMeant = (candidate: Import | Export) => candidate.name === address.symbol;
    const imported = module.importedFunctions.findIndex(isMeant);
    const index = imported < 0 ? module.exportedFunctions.find(isMeant)?.index : imported;
    const symbol = index === undefined ? undefined : functions[index];
    if (symbol === undefined)
      throw new UserError(`${name} stands for ${address.symbol}, which the core neither calls nor exports`);
    return { ...known, symbol };
  });
  return { targets, segments };
}

/** A replacement for a range of the code. It ends in a field of five bytes that the linker overwrites. */
interface Patch {
  readonly start: number;
  readonly end: number;
  readonly beforeField: Bytes;
  /** The field's value before linking. */
  readonly value: number;
  readonly relocation: number;
  readonly symbol: number;
  /** What the linker adds to the address, in relocations of addresses. */
  readonly addend?: number;
}

const FIELD = 5;

interface Relocated {
  readonly code: Bytes;
  /** The globals that the code uses. Those that are only exported are constants for the build, and are dropped. */
  readonly globals: readonly Bytes[];
  readonly relocations: readonly Bytes[];
}

function relocate(
  { code, indices, globals: allGlobals }: Module,
  symbols: SymbolTable,
  functions: readonly number[],
  targets: readonly Target[],
  positionIndependent: boolean,
): Relocated {
  const used = new Map<number, { value: number; symbol: number }>();
  const globals: Bytes[] = [];
  const usedGlobal = (original: number): { value: number; symbol: number } => {
    let global = used.get(original);
    if (global === undefined) {
      const place = globals.push(allGlobals[original - targets.length]!.bytes) - 1;
      const value = (positionIndependent ? targets.length : 0) + place;
      global = { value, symbol: symbols.addLocal(SYMBOL_KIND.global, value, `global${place}`) };
      used.set(original, global);
    }
    return global;
  };

  const patches = indices.map(({ type, offset }): Patch => {
    const index = reader(code, offset).u32();
    const padding = { start: offset, end: offset + FIELD, beforeField: [], relocation: type };
    if (type === RELOCATION.typeIndex) return { ...padding, value: index, symbol: index };
    if (type === RELOCATION.functionIndex) return { ...padding, value: index, symbol: functions[index]! };
    if (type !== RELOCATION.globalIndex) {
      throw new UserError(`the core's code needs a relocation of type ${type}, which is not known here`);
    }
    const target = targets[index];
    if (target === undefined) return { ...padding, ...usedGlobal(index) };
    if (code[offset - 1] !== OPCODE.globalGet) throw new UserError("the core assigns to an imported global");
    if (positionIndependent) return { ...padding, value: index, symbol: target.symbol };
    return addressPatch(code, offset, target);
  });
  return { ...applyPatches(code, patches), globals };
}

/** Returns the patch for a read of an imported global, whose index is at `offset`, and for a sum or a load with it. */
function addressPatch(code: Uint8Array, offset: number, { kind, symbol }: Target): Patch {
  const start = offset - 1;
  const end = offset + FIELD;
  const constant = { start, end, beforeField: OPCODE.i32Const, value: 0, symbol };
  if (kind === "function") return { ...constant, relocation: RELOCATION.tableIndexSigned };
  const address = { ...constant, relocation: RELOCATION.memoryAddressSigned, addend: 0 };
  // The linker resolves an undefined weak symbol to 0 and ignores the addend. So the code keeps its own addition.
  if (kind === "data") return address;

  const sum = constantAdded(code, end);
  const load = loadFrom(code, sum.end);
  if (!load) return { ...address, ...sum, value: sum.addend };
  const addend = sum.addend + load.offset;
  const changed = { relocation: RELOCATION.memoryAddress, value: addend, addend };
  return { start, end: load.end, beforeField: [load.index, load.instruction], symbol, ...changed };
}

/**
 * Returns the constant that the code at `start` adds to the top of the stack, 0 if none, and where the addition ends.
 */
function constantAdded(code: Uint8Array, start: number): { addend: number; end: number } {
  const read = reader(code, start);
  if (read.byte() === OPCODE.i32Const) {
    const number = read.i32();
    const operation = read.byte();
    if (operation === OPCODE.i32Add) return { addend: number, end: read.position() };
    if (operation === OPCODE.i32Sub) return { addend: -number, end: read.position() };
  }
  return { addend: 0, end: start };
}

/** A load from the sum of an address and an index. */
interface IndexedLoad {
  /** The code that computes the index; empty if the index was pushed before the address. */
  readonly index: Uint8Array;
  /** The load instruction up to its offset. */
  readonly instruction: Uint8Array;
  readonly offset: number;
  readonly end: number;
}

/**
 * Returns the load that the code at `start`, with the address on the stack, gets to by nothing but arithmetic, if any.
 */
function loadFrom(code: Uint8Array, start: number): IndexedLoad | undefined {
  const read = reader(code, start);
  let above = 0; // values on the stack above the address
  for (;;) {
    const index = code.subarray(start, read.position());
    const opcode = read.byte();
    if (opcode === OPCODE.localGet || opcode === OPCODE.i32Const) {
      read.leb();
      above++;
    } else if (above > 1 && opcode >= OPCODE.firstI32Arithmetic && opcode <= OPCODE.lastI32Arithmetic) {
      above--;
    } else {
      if (opcode !== OPCODE.i32Add) return undefined;
      const instruction = read.position();
      const load = read.byte();
      if (load < OPCODE.firstLoad || load > OPCODE.lastLoad) return undefined;
      read.u32(); // alignment
      const offset = read.position();
      return {
        index,
        instruction: code.subarray(instruction, offset),
        offset: read.u32(),
        end: read.position(),
      };
    }
  }
}

/**
 * Applies the patches, which are in the order of the code. Returns the new code and the relocations of their fields.
 */
function applyPatches(code: Uint8Array, patches: readonly Patch[]): Pick<Relocated, "code" | "relocations"> {
  const read = reader(code);
  const bodies = read.vector(() => {
    const size = read.u32();
    const start = read.position();
    read.take(size);
    return { start, end: start + size };
  });
  const relocations: Bytes[] = [];
  let position = unsigned(bodies.length).length;
  const patched = bodies.map(({ start, end }): Bytes => {
    const own = patches.filter((patch) => patch.start >= start && patch.start < end);
    let from = start;
    const parts = own.map((patch) => {
      const kept = code.subarray(from, patch.start);
      from = patch.end;
      return flatten([kept, patch.beforeField, padded(patch.value)]);
    });
    const rest = code.subarray(from, end);
    const size = unsigned(parts.reduce((sum, { length }) => sum + length, rest.length));
    position += size.length;
    for (const [i, { relocation, symbol, addend }] of own.entries()) {
      position += parts[i]!.length;
      const place = [unsigned(position - FIELD), unsigned(symbol)];
      relocations.push([relocation, place, addend === undefined ? [] : signed(addend)]);
    }
    position += rest.length;
    return [size, parts, rest];
  });
  return { code: vector(patched), relocations };
}

/** Returns the import section. Memory, table and address globals have no limits or values yet: the linker sets them. */
function importSection(functions: readonly Import[], needsTable: boolean, offsets: readonly Target[]): Bytes {
  const NO_LIMITS = [0, unsigned(0)];
  const memory = [text("env"), text("__linear_memory"), EXTERN.memory, NO_LIMITS];
  const table = [text("env"), text("__indirect_function_table"), EXTERN.table, FUNCREF, NO_LIMITS];
  const imported = functions.map(({ module, name, type }) => [
    text(module),
    text(name),
    EXTERN.function,
    unsigned(type),
  ]);
  const addresses = offsets.map(({ kind, name }) => {
    const MUTABLE = 1;
    return [text(kind === "function" ? "GOT.func" : "GOT.mem"), text(name), EXTERN.global, I32, MUTABLE];
  });
  return vector([memory, ...(needsTable ? [table] : []), ...imported, ...addresses]);
}

function segmentInfo({ name, alignment }: Segment): Bytes {
  const FLAGS = 0;
  return [text(name), unsigned(Math.log2(alignment)), unsigned(FLAGS)];
}

/** Returns the data segments, laid out one after the other. */
function placeSegments(segments: readonly Segment[]): Bytes[] {
  const ACTIVE = 0;
  let end = 0;
  return segments.map(({ contents, alignment }) => {
    const start = Math.ceil(end / alignment) * alignment;
    end = start + contents.length;
    return [ACTIVE, OPCODE.i32Const, signed(start), OPCODE.end, unsigned(contents.length), contents];
  });
}
