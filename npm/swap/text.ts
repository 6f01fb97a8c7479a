/** Parses WebAssembly's text format as Binaryen writes it, and searches code for patterns. */

/** A form such as `["i32.load", "offset=4", ["local.get", "$0"]]`. */
export type Form = readonly (string | Form)[];

/** An access to memory at an address that is a constant in the code. */
export interface Access {
  readonly address: number;
  readonly kind: "load" | "store";
}

const TOKEN = /\s+|;;[^\n]*|\(;[^]*?;\)|("(?:[^"\\]|\\[^])*")|([()])|([^\s()";]+)/y;

/** Parses one form. */
export function parse(text: string): Form {
  const open: (string | Form)[][] = [[]];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const token = TOKEN.exec(text);
    if (!token) throw new Error("Binaryen's text has an unexpected character");
    const [, quoted, bracket, atom] = token;
    if (bracket === "(") open.push([]);
    else if (bracket === ")") open.at(-2)?.push(open.pop()!);
    else if (quoted ?? atom) open.at(-1)!.push(quoted ?? atom!);
  }
  const [[form] = []] = open;
  if (open.length !== 1 || typeof form !== "object")
    throw new Error("Binaryen's text has unbalanced brackets");
  return form;
}

export function children(form: Form): Form[] {
  return form.filter((item): item is Form => typeof item !== "string");
}

function* walk(form: Form): Generator<Form> {
  yield form;
  for (const child of children(form)) yield* walk(child);
}

/** Returns the unsigned value of an `i32.const`, or undefined for any other form. */
function constant(form: Form | undefined): number | undefined {
  return form?.[0] === "i32.const" ? Number(form[1]) >>> 0 : undefined;
}

/**
 * An access whose first operand, the address, is a constant. With SAFE_HEAP, Emscripten turns accesses into calls whose
 * second operand is the offset.
 */
const ACCESS =
  /\((?:[if](?:32|64)\.(?:atomic\.)?(load|store|rmw)|call \$SAFE_HEAP_(LOAD|STORE)_)[^()]*\(i32\.const (-?\d+)\)(?:\s*\(i32\.const (-?\d+)\))?/g;
const OFFSET = / offset=(\d+)/;

/** An access whose address is computed: an element of an array, or code that was not optimized. */
const INDEXED = /\([if](?:32|64)\.(load|store)[^()]* offset=(\d{4,})/g;

/**
 * Returns the accesses to addresses that are constants in the code. Programs have no data below 1024, so larger offsets
 * are taken for addresses.
 */
export function accesses(code: string): Access[] {
  const direct = [...code.matchAll(ACCESS)].map(([text, plain, safe, address, second]): Access => {
    const offset = safe ? (second ?? 0) : (OFFSET.exec(text)?.[1] ?? 0);
    const kind = plain === "load" || safe === "LOAD" ? "load" : "store";
    return { address: (Number(address) >>> 0) + Number(offset), kind };
  });
  const indexed = [...code.matchAll(INDEXED)].map(([, kind, offset]): Access => ({
    address: Number(offset),
    kind: kind as Access["kind"],
  }));
  return [...direct, ...indexed.filter(({ address }) => address >= LOWEST_DATA)];
}

const LOWEST_DATA = 1024;

const CALLEE = /\((?:return_call|call|ref\.func) \$([^\s()]+)/g;

/** Returns the functions that the code calls or takes the address of. */
export function callees(code: string): string[] {
  return [...code.matchAll(CALLEE)].map(([, name]) => name!);
}

/** Returns whether the code only calls `callee` with its own parameters. */
export function forwardsTo(code: string, callee: string): boolean {
  const forms = [...walk(parse(code))].filter(
    ([operation]) => operation !== "return" && operation !== "block",
  );
  return forms.every(
    ([operation, name]) => operation === "local.get" || (operation === "call" && name === `$${callee}`),
  );
}

/**
 * Returns whether the code reads the word before a block, as dlmalloc and emmalloc do in functions that are small enough
 * to be inlined: `(word & 3)` to see whether calloc must clear the block, `(word - 8)` for its usable size.
 */
export function readsHeader(code: string): boolean {
  // Parsing is slow, and most code has no such constants.
  if (!/\(i32\.const -?4\)/.test(code) || !/\(i32\.const (?:3|8|-8)\)/.test(code)) return false;
  return [...walk(parse(code))].some((form) => {
    const [operation] = form;
    const [left, right] = children(form);
    const value = constant(right);
    if (operation === "i32.and") return isWordBefore(left) && value === 3;
    if (operation === "i32.sub") return isWordBefore(left) && value === 8;
    return operation === "i32.add" && isWordBefore(left) && value === -8 >>> 0;
  });
}

/** Returns whether the form loads from four bytes before a pointer, possibly through a `local.tee`. */
function isWordBefore(form: Form | undefined): boolean {
  if (!form) return false;
  const [operation] = form as readonly [string];
  if (operation === "local.tee") return isWordBefore(children(form)[0]);
  const isSafeHeapLoad = operation === "call" && (form[1] as string).startsWith("$SAFE_HEAP_LOAD_");
  if (!isSafeHeapLoad && !operation.startsWith("i32.load")) return false;
  const [pointer] = children(form);
  const by = constant(children(pointer ?? [])[1]);
  return (pointer?.[0] === "i32.sub" && by === 4) || (pointer?.[0] === "i32.add" && by === -4 >>> 0);
}
