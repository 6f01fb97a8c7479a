/** The object writer: LLVM's tools read and link the objects that it makes of small modules. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import fc from "fast-check";
import { writeObject, type ObjectDescription } from "../cabi/object.ts";
import { HEADER, flatten, padded, readSections, reader, signed, unsigned } from "../npm/binary-format.ts";
import { LLVMS, checker, relocatable, sharedOptions, symbols, type Llvm } from "./support-llvm.ts";
import { rejection } from "./support.ts";

const MODULE = `(module
  (import "env" "memory" (memory 0))
  (import "env" "state" (global $state i32))
  (import "env" "other" (global $other i32))
  (import "env" "__heap_base" (global $heap_base i32))
  (import "env" "variable" (global $variable i32))
  (import "env" "callback.address" (global $callback_address i32))
  (import "env" "callback" (func $callback (result i32)))
  (global $size i32 (i32.const 100))
  (global $calls (mut i32) (i32.const 1000))
  (export "SIZE" (global $size))
  (export "state_address" (func $state_address))
  (export "other_address" (func $other_address))
  (export "heap_base" (func $heap_base))
  (export "variable_or" (func $variable_or))
  (export "call_back" (func $call_back))
  (func $state_address (result i32)
    (i32.store offset=96 (global.get $state) (i32.const 7))
    (global.get $state))
  (func $other_address (result i32) (global.get $other))
  (func $heap_base (result i32) (global.get $heap_base))
  (func $variable_or (param $default i32) (result i32)
    (if (global.get $variable) (then (return (i32.load (global.get $variable)))))
    (local.get $default))
  (func $call_back (result i32)
    (call $count)
    (if (result i32) (global.get $callback_address)
      (then (call $callback))
      (else (global.get $calls))))
  (func $count (global.set $calls (i32.add (global.get $calls) (i32.const 1)))))`;

const DESCRIPTION: ObjectDescription = {
  functions: new Map([
    ["state_address", [{ name: "state_address" }, { name: "alias" }, { name: "weak_alias", weak: true }]],
    ["other_address", [{ name: "other_address" }]],
    ["heap_base", [{ name: "heap_base" }]],
    ["variable_or", [{ name: "variable_or" }]],
    ["call_back", [{ name: "call_back" }]],
  ]),
  addresses: new Map([
    ["state", { kind: "bss", size: 100, alignment: 64 }],
    ["other", { kind: "bss", size: 5, alignment: 256 }],
    ["__heap_base", { kind: "data", symbol: "__heap_base" }],
    ["variable", { kind: "data", symbol: "variable", weak: true }],
    ["callback.address", { kind: "function", symbol: "callback" }],
  ]),
  weakFunctions: new Set(["callback"]),
  features: ["bulk-memory", "mutable-globals"],
};

const INDEPENDENT: ObjectDescription = { ...DESCRIPTION, positionIndependent: true };

/** Defines the weak function that the module above calls. */
const OTHER_MODULE = `(module
  (import "env" "memory" (memory 0))
  (export "callback" (func $callback))
  (func $callback (result i32) (i32.const 42)))`;

const OTHER_DESCRIPTION: ObjectDescription = {
  functions: new Map([["callback", [{ name: "callback" }]]]),
  addresses: new Map(),
  features: [],
};

const STATE_SIZE = 128;
const INDEX = "(i32.and (i32.add (local.get $i) (i32.const 3)) (i32.const -4))";
const MANY = 16;

/**
 * Sums with addresses. For each: its code; what it returns if $i is 10 and each word of memory holds its own address; and
 * the relocations that the object must have for it.
 */
const SUMS: Record<string, readonly [string, (state: number) => number, ...string[]]> = {
  plus: [`(i32.add (global.get $state) (i32.const 100))`, (state) => state + 100, "SLEB state 100"],
  minus: [`(i32.sub (global.get $state) (i32.const -64))`, (state) => state + 64, "SLEB state 64"],
  before: [`(i32.add (global.get $state) (i32.const -12))`, (state) => state - 12, "SLEB state -12"],
  load_at: [
    `(i32.load offset=8 (i32.add (global.get $state) ${INDEX}))`,
    (state) => state + 20,
    "LEB state 8",
  ],
  load_at_index_first: [
    `(i32.load offset=40 (i32.add ${INDEX} (global.get $state)))`,
    (state) => state + 52,
    "LEB state 40",
  ],
  load_at_plus: [
    `(i32.load offset=8 (i32.add (i32.add (global.get $state) (i32.const 80)) ${INDEX}))`,
    (state) => state + 100,
    "LEB state 88",
  ],
  load_byte_at: [
    `(i32.load8_u offset=2 (i32.add (local.get $i) (global.get $state)))`,
    (state) => (state + 12) & 0xff,
    "LEB state 2",
  ],
  load_at_minus: [`(i32.load (i32.sub (global.get $state) ${INDEX}))`, (state) => state - 12, "SLEB state 0"],
  load_at_loaded: [
    `(i32.load (i32.add (global.get $state) (i32.sub (i32.load (global.get $state)) (global.get $state))))`,
    (state) => state,
    "SLEB state 0",
    "SLEB state 0",
    "SLEB state 0",
  ],
  store_of_sum: [
    `(i32.store offset=8 (global.get $other) (i32.add (local.get $i) (global.get $state)))
     (i32.load offset=8 (global.get $other))`,
    (state) => state + 10,
    "SLEB other 0",
    "SLEB state 0",
    "SLEB other 0",
  ],
  // No object defines this weak symbol, so its address is 0. A linker would also make 0 of the whole sum, so the sum must
  // stay in the code.
  weak_plus: [`(i32.add (global.get $variable) (i32.const 100))`, () => 100, "SLEB variable 0"],
  weak_load_at: [
    `(i32.load offset=8 (i32.add (global.get $variable) ${INDEX}))`,
    () => 20,
    "SLEB variable 0",
  ],
  // This function becomes so much shorter that the LEB128 number of its length has one byte less.
  many: [
    `(i32.add (global.get $state) (i32.const 1)) ${"(i32.add (global.get $state) (i32.const 1)) (i32.sub)".repeat(MANY)}`,
    (state) => state + 1 - MANY * (state + 1),
    ...Array<string>(MANY + 1).fill("SLEB state 1"),
  ],
};

const SUMS_MODULE = `(module
  (import "env" "memory" (memory 0))
  (import "env" "state" (global $state i32))
  (import "env" "other" (global $other i32))
  (import "env" "variable" (global $variable i32))
  (func $state_address (export "state_address") (result i32) (global.get $state))
  ${Object.entries(SUMS)
    .map(([name, [code]]) => `(func $${name} (export "${name}") (param $i i32) (result i32) ${code})`)
    .join("\n")})`;

const SUMS_DESCRIPTION: ObjectDescription = {
  functions: new Map(["state_address", ...Object.keys(SUMS)].map((name) => [name, [{ name }]])),
  addresses: new Map([
    ["other", { kind: "bss", size: 20, alignment: 4 }],
    ["state", { kind: "bss", size: STATE_SIZE, alignment: 64 }],
    ["variable", { kind: "data", symbol: "variable", weak: true }],
  ]),
  features: [],
};

async function link(llvm: Llvm, objects: Record<string, Uint8Array>, ...options: string[]) {
  const exported = ["--export-all", "--no-entry"];
  const args = [...Object.keys(objects), ...exported, ...options, "-o", "out.wasm"];
  const { files } = await llvm.run("wasm-ld", args, objects);
  const { instance } = await WebAssembly.instantiate(files["out.wasm"] as Uint8Array<ArrayBuffer>);
  const { memory, __heap_base, ...functions } = instance.exports;
  return {
    memory: memory as WebAssembly.Memory,
    heapBase: (__heap_base as WebAssembly.Global).value as number,
    functions: functions as Record<string, (argument?: number) => number>,
  };
}

/** Links a position-independent module and loads it at `memoryBase`. `offsets`: the addresses that it imports, by name. */
async function loadShared(
  llvm: Llvm,
  object: Uint8Array,
  memoryBase: number,
  offsets: Record<string, number>,
) {
  const options = [...sharedOptions(llvm), "--export-all"];
  const { files } = await llvm.run("wasm-ld", ["object.o", ...options, "-o", "out.wasm"], {
    "object.o": object,
  });
  const module = new WebAssembly.Module(files["out.wasm"] as BufferSource);
  const memory = new WebAssembly.Memory({ initial: 1 });
  const address = (value: number, mutable = false) =>
    new WebAssembly.Global({ value: "i32", mutable }, value);
  const env = {
    memory,
    __indirect_function_table: new WebAssembly.Table({ element: "anyfunc", initial: 1 }),
    __memory_base: address(memoryBase),
    __table_base: address(0),
    callback: () => 42,
    // The module imports its own weak function, since another module may define it too.
    weak_alias: () => 0,
  };
  const table = Object.fromEntries(
    Object.entries(offsets).map(([name, value]) => [name, address(value, true)]),
  );
  const { exports } = new WebAssembly.Instance(module, { env, "GOT.mem": table, "GOT.func": table });
  const functions = exports as Record<string, (argument?: number) => number>;
  functions["__wasm_apply_global_relocs"]?.();
  return { functions, memory };
}

test("LEB128 numbers are read back as they were written", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffffffff }), (value) => {
      assert.is(reader(unsigned(value)).u32(), value);
      assert.is(reader(padded(value)).u32(), value);
      assert.is(padded(value).length, 5);
    }),
  );
  fc.assert(
    fc.property(fc.integer({ min: -0x80000000, max: 0x7fffffff }), (value) => {
      assert.is(reader(signed(value)).i32(), value);
    }),
  );
});

test("reading a module that ends in mid-section throws an error", () => {
  const module = relocatable(MODULE);
  for (const length of [0, 4, 9, 20, module.length - 1]) {
    assert.throws(() => readSections(module.subarray(0, length)), /not a wasm module|is truncated/);
  }
});

test("an object's sections are in LLVM's order, without exports and without wabt's name section", () => {
  const sections = readSections(writeObject(relocatable(MODULE), DESCRIPTION));
  assert.equal(
    sections.map(({ id, name }) => name || id),
    [1, 2, 3, 6, 10, 11, "linking", "reloc.CODE", "target_features"],
  );
});

for (const llvm of LLVMS) {
  const check = checker(llvm, "nm", "readobj", "wasm-ld");

  check("an object's symbols are public, weak, local or undefined as its description says", async () => {
    const found = await symbols(llvm, writeObject(relocatable(MODULE), DESCRIPTION));
    assert.equal(
      found.map(({ type, name }) => `${type} ${name}`),
      [
        "U __heap_base",
        "U __indirect_function_table",
        "T alias",
        "T call_back",
        "w callback",
        "t count",
        "d global0",
        "T heap_base",
        "d other",
        "T other_address",
        "d state",
        "T state_address",
        "w variable",
        "T variable_or",
        "W weak_alias",
      ],
    );
  });

  check("each use of a symbol has a relocation with its name", async () => {
    const file = writeObject(relocatable(MODULE), DESCRIPTION);
    const { stdout } = await llvm.run("readobj", ["--relocations", "file"], { file });
    const entries = stdout.match(/R_WASM_\w+ .*/g) ?? [];
    assert.equal(entries.sort(), [
      "R_WASM_FUNCTION_INDEX_LEB callback",
      "R_WASM_FUNCTION_INDEX_LEB count",
      "R_WASM_GLOBAL_INDEX_LEB global0",
      "R_WASM_GLOBAL_INDEX_LEB global0",
      "R_WASM_GLOBAL_INDEX_LEB global0",
      "R_WASM_MEMORY_ADDR_SLEB __heap_base 0",
      "R_WASM_MEMORY_ADDR_SLEB other 0",
      "R_WASM_MEMORY_ADDR_SLEB state 0",
      "R_WASM_MEMORY_ADDR_SLEB state 0",
      "R_WASM_MEMORY_ADDR_SLEB variable 0",
      "R_WASM_MEMORY_ADDR_SLEB variable 0",
      "R_WASM_TABLE_INDEX_SLEB callback",
    ]);
  });

  for (const description of [DESCRIPTION, INDEPENDENT]) {
    const kind = description.positionIndependent ? "position-independent " : "";
    check(`a linked ${kind}object has its own memory, and undefined weak symbols are zero`, async () => {
      const object = writeObject(relocatable(MODULE), description);
      const { functions, memory, heapBase } = await link(llvm, { "object.o": object });
      const state = functions["state_address"]!();
      const other = functions["other_address"]!();
      assert.is(state % 64, 0);
      assert.is(other % 256, 0);
      assert.ok(
        state + 100 <= other || other + 5 <= state,
        `the object at ${state} overlaps the one at ${other}`,
      );
      assert.is(functions["alias"]!(), state);
      assert.is(functions["weak_alias"]!(), state);
      assert.is(new DataView(memory.buffer).getInt32(state + 96, true), 7);
      assert.is(functions["heap_base"]!(), heapBase);
      assert.ok(state + 100 <= heapBase && other + 5 <= heapBase);
      assert.is(functions["variable_or"]!(-5), -5);
      assert.is(functions["call_back"]!(), 1001);
      assert.is(functions["call_back"]!(), 1002);
    });
  }

  check("a position-independent object's memory lies at the address where it is loaded", async () => {
    const object = writeObject(relocatable(MODULE), INDEPENDENT);
    for (const base of [4096, 8192]) {
      const offsets = { __heap_base: 60000, variable: 20000, callback: base === 4096 ? 0 : 1 };
      const { functions, memory } = await loadShared(llvm, object, base, offsets);
      const state = functions["state_address"]!();
      const other = functions["other_address"]!();
      assert.ok(Math.min(state, other) >= base && Math.max(state, other) < base + 512);
      assert.ok(state + 100 <= other || other + 5 <= state);
      const words = new DataView(memory.buffer);
      assert.is(words.getInt32(state + 96, true), 7);
      words.setInt32(offsets.variable, 77, true);
      assert.is(functions["variable_or"]!(-5), 77);
      assert.is(functions["heap_base"]!(), offsets.__heap_base);
      assert.is(functions["call_back"]!(), offsets.callback ? 42 : 1001);
    }
  });

  check("an object that is not position-independent does not link into a shared module", async () => {
    const object = writeObject(relocatable(MODULE), DESCRIPTION);
    const message = await loadShared(llvm, object, 4096, {}).then(() => "", String);
    assert.match(message, /recompile with -fPIC/);
  });

  check("sums with addresses become relocations where the linker may compute them", async () => {
    const file = writeObject(relocatable(SUMS_MODULE), SUMS_DESCRIPTION);
    const { stdout } = await llvm.run("readobj", ["--relocations", "file"], { file });
    const expected = Object.values(SUMS).flatMap(([, , ...relocations]) => relocations);
    assert.equal(stdout.match(/(?<=R_WASM_MEMORY_ADDR_).*/g), ["SLEB state 0", ...expected]);
  });

  for (const [options, positionIndependent] of [
    [[], false],
    [["--compress-relocations", "--strip-all"], false],
    [[], true],
  ] as const) {
    const how = [...options, ...(positionIndependent ? ["position-independent"] : [])].join(" ");
    check(`sums with addresses are right after linking: ${how || "default options"}`, async () => {
      const object = writeObject(relocatable(SUMS_MODULE), { ...SUMS_DESCRIPTION, positionIndependent });
      const { functions, memory } = await link(llvm, { "object.o": object }, ...options);
      const state = functions["state_address"]!();
      const words = new Int32Array(memory.buffer);
      words.forEach((_, i) => (words[i] = i * 4));
      for (const [name, [, result]] of Object.entries(SUMS)) {
        assert.is(functions[name]!(10), result(state) | 0, name);
      }
    });
  }

  check("a weak undefined function is called if another object defines it", async () => {
    const other = writeObject(relocatable(OTHER_MODULE), OTHER_DESCRIPTION);
    const objects = { "object.o": writeObject(relocatable(MODULE), DESCRIPTION), "other.o": other };
    const { functions } = await link(llvm, objects);
    assert.is(functions["call_back"]!(), 42);
  });

  check("two objects that define the same name do not link, unless one definition is weak", async () => {
    const strong = writeObject(relocatable(OTHER_MODULE), OTHER_DESCRIPTION);
    const functionsWeak = new Map([["callback", [{ name: "callback", weak: true }]]]);
    const weak = writeObject(relocatable(OTHER_MODULE), { ...OTHER_DESCRIPTION, functions: functionsWeak });
    const { message } = await rejection(link(llvm, { "a.o": strong, "b.o": strong }));
    assert.match(message, /duplicate symbol: callback/);
    const { functions } = await link(llvm, { "a.o": weak, "b.o": strong });
    assert.is(functions["callback"]!(), 42);
  });

  check("--gc-sections removes unused functions and data", async () => {
    const object = writeObject(relocatable(MODULE), DESCRIPTION);
    const args = ["object.o", "--no-entry", "--gc-sections", "--export=variable_or", "-o", "out.wasm"];
    const { files } = await llvm.run("wasm-ld", args, { "object.o": object });
    const exports = WebAssembly.Module.exports(new WebAssembly.Module(files["out.wasm"] as BufferSource));
    assert.equal(exports.map(({ name }) => name).sort(), ["memory", "variable_or"]);
    const code = readSections(files["out.wasm"]!).find(({ id }) => id === 10);
    assert.is(reader(code!.payload).u32(), 1);
  });
}

const REFUSED: readonly [string, string, Partial<ObjectDescription>, RegExp][] = [
  ["data at a fixed address", `(data (i32.const 8) "x")`, {}, /has a data section/],
  ["a start function", `(func $start) (start $start)`, {}, /has a start section/],
  ["a table", `(table 1 funcref)`, {}, /has a table section/],
  ["an export without a public name", `(func (export "f"))`, {}, /public names the core's export f has/],
  ["a missing export", ``, { functions: new Map([["g", [{ name: "g" }]]]) }, /does not export g/],
  [
    "an unknown address",
    `(import "env" "x" (global i32)) (func (drop (global.get 0)))`,
    {},
    /imported global x stands for/,
  ],
  [
    "an assignment to an address",
    `(import "env" "x" (global (mut i32))) (func (global.set 0 (i32.const 1)))`,
    { addresses: new Map([["x", { kind: "data", symbol: "x" }]]) },
    /assigns to an imported global/,
  ],
  [
    "the address of a function that is not imported",
    `(import "env" "x" (global i32))`,
    { addresses: new Map([["x", { kind: "function", symbol: "y" }]]) },
    /stands for y/,
  ],
];

for (const [what, fields, description, message] of REFUSED) {
  test(`${what} is refused`, () => {
    const imports = fields.match(/\(import .*?\)\)\)?/)?.[0] ?? "";
    const wat = `(module ${imports} (import "env" "memory" (memory 0)) ${fields.replace(imports, "")} (func $f))`;
    const base: ObjectDescription = { functions: new Map(), addresses: new Map(), features: [] };
    assert.throws(() => writeObject(relocatable(wat), { ...base, ...description }), message);
  });
}

test("a module that is not relocatable is refused", () => {
  assert.throws(() => writeObject(HEADER, DESCRIPTION), /not relocatable/);
});

test("flatten joins nested lists of bytes in order", () => {
  assert.equal([...flatten([1, Uint8Array.of(2, 3), [4, [5]]])], [1, 2, 3, 4, 5]);
});

test.run();
