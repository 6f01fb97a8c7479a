/**
 * Makes an LLVM object file out of a wasm module, so that a linker takes it for compiled C.
 *
 * The input is a module as wabt's `toBinary({ relocatable: true })` writes it: every index in its code takes five
 * bytes and is listed in a `reloc.Code` section. docs/object-format.md tells what becomes of it; the format is that of
 * https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md, whose terms are used here.
 */
import {
  EXTERN,
  HEADER,
  OPCODE,
  SECTION,
  customSection,
  flatten,
  padded,
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
  type Section,
} from "./wasm.ts";

/** A symbol that other objects see. */
export interface PublicSymbol {
  readonly name: string;
  /** Gives way to another object's definition of the same name. */
  readonly weak?: boolean;
}

/** What an imported immutable i32 global stands for: the address of a data symbol, or of a function. */
export type Address =
  /** Zeroed memory that this object brings along; `alignment` is a power of two. Sizes in bytes. */
  | { readonly kind: "bss"; readonly size: number; readonly alignment: number }
  /** Another object's variable, or the linker's (`__heap_base`). A weak one that nobody defines has address 0. */
  | { readonly kind: "data"; readonly symbol: string; readonly weak?: boolean }
  /** An imported function, as a table index. A weak one that nobody defines has index 0. */
  | { readonly kind: "function"; readonly symbol: string };

export interface ObjectDescription {
  /** The public symbols of each exported function, by the export's name. The object's own calls use the first. */
  readonly functions: ReadonlyMap<string, readonly PublicSymbol[]>;
  /** What each imported global stands for, by the import's name. */
  readonly addresses: ReadonlyMap<string, Address>;
  /** Imported functions that need not exist. A call to one that does not exist traps. */
  readonly weakFunctions?: ReadonlySet<string>;
  /** Names a function that only this object sees, by its name in the module. */
  readonly localName?: (name: string) => string;
  /** The wasm features that the code uses, as LLVM names them. */
  readonly features: readonly string[];
}

const RELOCATION = {
  functionIndex: 0,
  tableIndexSigned: 1,
  memoryAddressSigned: 4,
  typeIndex: 6,
  globalIndex: 7,
} as const;

const SYMBOL_KIND = { function: 0, data: 1, global: 2 } as const;
const FLAG = { weak: 0x01, local: 0x02, hidden: 0x04, undefined: 0x10 } as const;
const LINKING_VERSION = 2;
/** A feature that the object's code needs. */
const REQUIRED = "+".charCodeAt(0);
const SUBSECTION = { segmentInfo: 5, symbolTable: 8 } as const;

/** What the module may have; the rest (a start function, tables, data at fixed addresses) has no place in the object. */
const SECTIONS_UNDERSTOOD: readonly number[] = [
  SECTION.custom,
  SECTION.type,
  SECTION.import,
  SECTION.function,
  SECTION.global,
  SECTION.export,
  SECTION.code,
];

function only(sections: readonly Section[], id: number): Uint8Array {
  const found = sections.find((candidate) => candidate.id === id);
  return found ? found.payload : Uint8Array.of(0);
}

function custom(sections: readonly Section[], name: string): Uint8Array | undefined {
  return sections.find((candidate) => candidate.id === SECTION.custom && candidate.name === name)?.payload;
}

/** Returns the object file. Throws an Error where the module holds what an object made here cannot. */
export function writeObject(module: Uint8Array, description: ObjectDescription): Uint8Array {
  const sections = readSections(module);
  const unfit = sections.find(({ id }) => !SECTIONS_UNDERSTOOD.includes(id));
  if (unfit) {
    const name = Object.entries(SECTION).find(([, id]) => id === unfit.id)?.[0] ?? unfit.id;
    throw new Error(
      `an object cannot have the module's ${name} section: write the core without what causes it`,
    );
  }

  const imports = readImports(only(sections, SECTION.import));
  const importedFunctions = imports.filter(({ kind }) => kind === EXTERN.function);
  const importedGlobals = imports.filter(({ kind }) => kind === EXTERN.global);
  const globals = readGlobals(only(sections, SECTION.global));
  const exports = readExports(only(sections, SECTION.export));
  const names = readFunctionNames(custom(sections, "name") ?? new Uint8Array());

  // Symbols are numbered as they are added.
  const symbols: Bytes[] = [];
  const addSymbol = (kind: number, flags: number, ...rest: Bytes[]): number =>
    symbols.push([kind, unsigned(flags), rest]) - 1;
  const addLocal = (kind: number, index: number, name: string): number =>
    addSymbol(kind, FLAG.local | FLAG.hidden, unsigned(index), text(name));

  const functionSymbols: number[] = importedFunctions.map(({ name }, index) => {
    const flags = FLAG.undefined | (description.weakFunctions?.has(name) ? FLAG.weak : 0);
    return addSymbol(SYMBOL_KIND.function, flags, unsigned(index));
  });
  // Two exports can share one function: the compiler merges functions that do the same.
  const publicSymbols = new Map<number, PublicSymbol[]>();
  const missing = new Set(description.functions.keys());
  for (const { name, kind, index } of exports) {
    if (kind !== EXTERN.function) continue;
    const named = description.functions.get(name);
    if (named === undefined) throw new Error(`nothing says what public names the core's export ${name} has`);
    missing.delete(name);
    publicSymbols.set(index, [...(publicSymbols.get(index) ?? []), ...named]);
  }
  if (missing.size > 0) throw new Error(`the core does not export ${[...missing].join(", ")}`);

  const functionCount = reader(only(sections, SECTION.function)).u32();
  for (let index = importedFunctions.length; index < importedFunctions.length + functionCount; index++) {
    const [first] = (publicSymbols.get(index) ?? []).map(({ name, weak }) =>
      addSymbol(SYMBOL_KIND.function, weak ? FLAG.weak : 0, unsigned(index), text(name)),
    );
    const localName = description.localName ?? ((name: string) => name);
    functionSymbols.push(
      first ?? addLocal(SYMBOL_KIND.function, index, localName(names.get(index) ?? `${index}`)),
    );
  }

  // A .bss segment for each object that the code refers to, at increasing addresses of the object's own.
  const segments: Segment[] = [];
  const addressSymbols = importedGlobals.map(({ name }): { relocation: number; symbol: number } => {
    const address = description.addresses.get(name);
    if (address === undefined) throw new Error(`nothing says what the imported global ${name} stands for`);
    if (address.kind === "function") {
      const index = importedFunctions.findIndex((candidate) => candidate.name === address.symbol);
      if (index < 0)
        throw new Error(`${name} is the address of ${address.symbol}, which the core never calls`);
      return { relocation: RELOCATION.tableIndexSigned, symbol: functionSymbols[index]! };
    }
    const relocation = RELOCATION.memoryAddressSigned;
    if (address.kind === "data") {
      const flags = FLAG.undefined | (address.weak ? FLAG.weak : 0);
      return { relocation, symbol: addSymbol(SYMBOL_KIND.data, flags, text(address.symbol)) };
    }
    const { size, alignment } = address;
    const segment = segments.push({ name: `.bss.${name}`, size, alignment }) - 1;
    const place = [unsigned(segment), unsigned(0), unsigned(size)];
    return { relocation, symbol: addSymbol(SYMBOL_KIND.data, FLAG.local | FLAG.hidden, text(name), place) };
  });

  // Globals that only an export mentions are constants for the build, and are left out.
  const keptGlobals: Bytes[] = [];
  const globalSymbols = new Map<number, { index: number; symbol: number }>();
  const globalSymbol = (original: number): { index: number; symbol: number } => {
    let known = globalSymbols.get(original);
    if (known === undefined) {
      const index = keptGlobals.push(globals[original - importedGlobals.length]!.bytes) - 1;
      known = { index, symbol: addLocal(SYMBOL_KIND.global, index, `global${index}`) };
      globalSymbols.set(original, known);
    }
    return known;
  };

  const code = Uint8Array.from(only(sections, SECTION.code));
  const relocations = readRelocations(custom(sections, "reloc.Code")).map(({ type, offset }): Bytes => {
    // The index that stands in the code names the target; wabt's own symbol table is not needed.
    const index = reader(code, offset).u32();
    const entry = (kind: number, symbol: number): Bytes => [kind, unsigned(offset), unsigned(symbol)];
    switch (type) {
      case RELOCATION.typeIndex:
        return entry(type, index);
      case RELOCATION.functionIndex:
        return entry(type, functionSymbols[index]!);
      case RELOCATION.globalIndex: {
        const address = addressSymbols[index];
        if (address === undefined) {
          const global = globalSymbol(index);
          code.set(padded(global.index), offset);
          return entry(type, global.symbol);
        }
        if (code[offset - 1] !== OPCODE.globalGet) throw new Error("the core assigns to an imported global");
        code[offset - 1] = OPCODE.i32Const;
        code.set(padded(0), offset);
        const addend = address.relocation === RELOCATION.memoryAddressSigned ? [unsigned(0)] : [];
        return [entry(address.relocation, address.symbol), addend];
      }
      default:
        throw new Error(`the core's code needs a relocation of type ${type}, which is not known here`);
    }
  });

  const importSection = [
    unsigned(importedFunctions.length + 1),
    // The linker lays out the memory and sets its limits.
    [text("env"), text("__linear_memory"), EXTERN.memory, 0, unsigned(0)],
    importedFunctions.map(({ module, name, type }) => [
      text(module),
      text(name),
      EXTERN.function,
      unsigned(type),
    ]),
  ];
  const beforeCode = [
    section(SECTION.type, only(sections, SECTION.type)),
    section(SECTION.import, importSection),
    section(SECTION.function, only(sections, SECTION.function)),
    ...(keptGlobals.length > 0 ? [section(SECTION.global, vector(keptGlobals))] : []),
  ];
  return flatten([
    HEADER,
    beforeCode,
    section(SECTION.code, code),
    segments.length > 0 ? section(SECTION.data, vector(placeSegments(segments))) : [],
    customSection("linking", [
      unsigned(LINKING_VERSION),
      section(SUBSECTION.symbolTable, vector(symbols)),
      section(SUBSECTION.segmentInfo, vector(segments.map(segmentInfo))),
    ]),
    customSection("reloc.CODE", [unsigned(beforeCode.length), vector(relocations)]),
    customSection("target_features", vector(description.features.map((name) => [REQUIRED, text(name)]))),
  ]);
}

function readRelocations(payload: Uint8Array | undefined): { type: number; offset: number }[] {
  if (payload === undefined) throw new Error("the module has no reloc.Code section");
  const read = reader(payload);
  read.u32(); // the section that the entries apply to: the code
  return read.vector(() => {
    const type = read.byte();
    const offset = read.u32();
    read.u32(); // index of the target
    return { type, offset };
  });
}

interface Segment {
  readonly name: string;
  readonly size: number;
  readonly alignment: number;
}

function segmentInfo({ name, alignment }: Segment): Bytes {
  return [text(name), unsigned(Math.log2(alignment)), unsigned(0)];
}

/** Segments of zeros, one after the other. */
function placeSegments(segments: readonly Segment[]): Bytes[] {
  const ACTIVE = 0;
  const END = 0x0b;
  let end = 0;
  return segments.map(({ size, alignment }) => {
    const start = Math.ceil(end / alignment) * alignment;
    end = start + size;
    return [ACTIVE, OPCODE.i32Const, signed(start), END, unsigned(size), new Uint8Array(size)];
  });
}
