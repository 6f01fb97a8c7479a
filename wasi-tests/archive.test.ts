/** The archive writer: LLVM's ar and nm read what it writes, and LLVM's linker takes members from it. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { writeArchive, type Member } from "../cabi/archive.ts";
import { LLVMS, checker, objectOf } from "./support-llvm.ts";

const ONE = objectOf("(func $one (result i32) (i32.const 1))", "one");
const TWO = objectOf(
  "(func $two (result i32) (i32.const 2)) (func $deux (result i32) (i32.const 2))",
  "two",
  "deux",
);
const MEMBERS: readonly Member[] = [
  { name: "one.o", bytes: ONE, defines: ["one"] },
  { name: "exactly15chars.", bytes: Uint8Array.of(1, 2, 3), defines: [] },
  { name: "two.o", bytes: TWO, defines: ["two", "deux"] },
];

test("writing the same members twice gives the same bytes", () => {
  assert.equal(writeArchive(MEMBERS), writeArchive(MEMBERS));
});

test("member names that are empty, have over 15 letters, or contain a slash, space or non-ASCII letter are refused", () => {
  for (const name of ["", "sixteen-letters.", "a/b", "a b", "é.o"]) {
    assert.throws(() => writeArchive([{ name, bytes: ONE, defines: [] }]), RangeError);
  }
});

for (const llvm of LLVMS) {
  const check = checker(llvm, "ar", "nm", "wasm-ld");

  check("ar lists the members and extracts them unchanged", async () => {
    const archive = writeArchive(MEMBERS);
    const { stdout } = await llvm.run("ar", ["t", "lib.a"], { "lib.a": archive });
    assert.is(stdout, "one.o\nexactly15chars.\ntwo.o\n");
    const { files } = await llvm.run("ar", ["x", "lib.a"], { "lib.a": archive });
    for (const { name, bytes } of MEMBERS) assert.equal(new Uint8Array(files[name]!), new Uint8Array(bytes));
  });

  check("the symbol index has the member of each symbol", async () => {
    const archive = writeArchive(MEMBERS.filter(({ defines }) => defines.length > 0));
    const { stdout } = await llvm.run("nm", ["--print-armap", "lib.a"], { "lib.a": archive });
    const index = stdout.slice(0, stdout.indexOf("\n\n")).split("\n");
    assert.equal(index, ["Archive map", "one in one.o", "two in two.o", "deux in two.o"]);
  });

  check("ar reads an archive without symbols, and one without members", async () => {
    for (const members of [[], [{ ...MEMBERS[0]!, defines: [] }]]) {
      const { stdout } = await llvm.run("ar", ["t", "lib.a"], { "lib.a": writeArchive(members) });
      assert.is(stdout, members.map(({ name }) => `${name}\n`).join(""));
    }
  });

  check("the linker takes the member that defines a symbol, and no other", async () => {
    const files = { "lib.a": writeArchive(MEMBERS.filter(({ defines }) => defines.length > 0)) };
    const args = [
      "lib.a",
      "--no-entry",
      "--export=deux",
      "--no-gc-sections",
      "--export-dynamic",
      "-o",
      "out.wasm",
    ];
    const linked = await llvm.run("wasm-ld", [...args, "--export-all"], files);
    const module = new WebAssembly.Module(linked.files["out.wasm"] as BufferSource);
    const functions = WebAssembly.Module.exports(module).filter(({ kind }) => kind === "function");
    const names = functions.map(({ name }) => name).filter((name) => !name.startsWith("__"));
    assert.equal(names.sort(), ["deux", "two"]);
  });
}

test.run();
