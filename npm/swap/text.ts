/** The WebAssembly text format as trees, as far as Binaryen writes it, and what is looked for in the code. */

/** `["i32.load", "offset=4", ["local.get", "$0"]]` */
export type Form = readonly (string | Form)[];

/** An access to memory at an address that stands in the code. */
export interface Access {
  readonly address: number;
  readonly kind: "load" | "store";
}

const TOKEN = /\s+|;;[^\n]*|\(;[^]*?;\)|("(?:[^"\\]|\\[^])*")|([()])|([^\s()";]+)/y;

/** Reads one form. */
export function parse(text: string): Form {
  const open: (string | Form)[][] = [[]];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < text.length) {
    const token = TOKEN.exec(text);
    if (!token) throw new Error("Binaryen's text has a character that is none of the format's");
    const [, quoted, bracket, atom] = token;
    if (bracket === "(") open.push([]);
    else if (bracket === ")") open.at(-2)?.push(open.pop()!);
    else if (quoted ?? atom) open.at(-1)!.push(quoted ?? atom!);
  }
  const [[form] = []] = open;
  if (open.length !== 1 || typeof form !== "object")
    throw new Error("Binaryen's text has brackets that do not match");
  return form;
}

export function children(form: Form): Form[] {
  return form.filter((item): item is Form => typeof item !== "string");
}

function* walk(form: Form): Generator<Form> {
  yield form;
  for (const child of children(form)) yield* walk(child);
}

/** The value of an `i32.const`, unsigned; undefined for any other form. */
function constant(form: Form | undefined): number | undefined {
  return form?.[0] === "i32.const" ? Number(form[1]) >>> 0 : undefined;
}

function offset(form: Form): number {
  const attribute = form.find((item) => typeof item === "string" && item.startsWith("offset="));
  return attribute === undefined ? 0 : Number((attribute as string).slice("offset=".length));
}

const MEMORY_OPERATION = /^[if](?:32|64)\.(?:atomic\.)?(load|store|rmw)/;
/** With SAFE_HEAP, Emscripten makes calls of accesses: the address and its offset are the first operands. */
const SAFE_HEAP_CALL = /^\$SAFE_HEAP_(LOAD|STORE)_/;

/** The accesses to addresses that stand in the code. */
export function accesses(code: Form): Access[] {
  return [...walk(code)].flatMap((form): Access[] => {
    const [operation, name] = form as readonly [string, string?];
    const [first, second] = children(form);
    const base = constant(first);
    if (base === undefined) return [];
    const plain = MEMORY_OPERATION.exec(operation);
    if (plain) return [{ address: base + offset(form), kind: plain[1] === "load" ? "load" : "store" }];
    const safe = operation === "call" && SAFE_HEAP_CALL.exec(name ?? "");
    if (safe)
      return [{ address: base + (constant(second) ?? 0), kind: safe[1] === "LOAD" ? "load" : "store" }];
    return operation === "memory.fill" || operation === "memory.copy"
      ? [{ address: base, kind: "store" }]
      : [];
  });
}

/** The functions that are called or whose address is taken. */
export function callees(code: Form): string[] {
  return [...walk(code)]
    .filter(([operation]) => operation === "call" || operation === "return_call" || operation === "ref.func")
    .map(([, name]) => (name as string).slice(1));
}

/** Whether the code is nothing but a call of `callee` with its own parameters. */
export function forwardsTo(code: Form, callee: string): boolean {
  const forms = [...walk(code)].filter(([operation]) => operation !== "return" && operation !== "block");
  return forms.every(
    ([operation, name]) => operation === "local.get" || (operation === "call" && name === `$${callee}`),
  );
}

/**
 * Whether the code reads the word before a block as dlmalloc and emmalloc do in functions that are small enough to be
 * compiled into their callers: `(word & 3)` to see whether calloc must clear it, `(word - 8)` for its usable size.
 */
export function readsHeader(code: Form): boolean {
  return [...walk(code)].some((form) => {
    const [operation] = form;
    const [left, right] = children(form);
    const value = constant(right);
    if (operation === "i32.and") return isWordBefore(left) && value === 3;
    if (operation === "i32.sub") return isWordBefore(left) && value === 8;
    return operation === "i32.add" && isWordBefore(left) && value === -8 >>> 0;
  });
}

/** A load from four bytes before a pointer, maybe kept in a local on the way. */
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
