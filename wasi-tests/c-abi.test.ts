/** The C interface, called from C and C++ at every optimization level: every function and its errors. */
import { test } from "uvu";
import * as assert from "uvu/assert";
import { library } from "../tools/libraries.ts";
import { outputOf, withCompilers } from "./support.ts";

const LIBRARY = library("wasm32-wasi");
const PREFIXED_LIBRARY = library("wasm32-wasi", "prefixed");
const PROGRAMS = "wasi-tests/programs";
const LEVELS = ["-O0", "-O1", "-O2", "-O3"];

/** Without -fno-builtin the compiler would remove some calls, or replace them by their known results. */
const AS_WRITTEN = ["-fno-builtin", "-Wall", "-Wextra", "-Werror"];

/** The names that the program calls, and the library that defines them. */
const NAMES = [
  { names: "standard names", library: LIBRARY, flags: [] },
  { names: "prefixed names", library: LIBRARY, flags: ["-DPREFIXED"] },
  { names: "prefixed names beside dlmalloc", library: PREFIXED_LIBRARY, flags: ["-DPREFIXED"] },
];

await withCompilers((compiler, check) => {
  for (const level of LEVELS) {
    for (const { names, library, flags } of NAMES) {
      check(`every function behaves as documented: ${names}, ${level}`, async () => {
        assert.is(
          await outputOf(compiler, [`${PROGRAMS}/c-abi.c`, library], [level, ...AS_WRITTEN, ...flags]),
          "",
        );
      });
    }

    check(`a program behaves the same with all names, and with dlmalloc: ${level}`, async () => {
      const on = (libraries: readonly string[], flags: readonly string[]) =>
        outputOf(compiler, [`${PROGRAMS}/c-behaviour.c`, ...libraries], [level, ...AS_WRITTEN, ...flags]);
      const dlmalloc = await on([], []);
      assert.match(dlmalloc, /at the end/);
      for (const { names, library, flags } of NAMES) assert.is(await on([library], flags), dlmalloc, names);
    });
  }

  for (const flags of [["-O0"], ["-O2"], ["-O3"], ["-O2", "-flto"]]) {
    check(`C++ allocation works: ${flags.join(" ")}`, async () => {
      assert.is(await outputOf(compiler, [`${PROGRAMS}/cpp-abi.cc`, LIBRARY], ["-std=c++17", ...flags]), "");
    });
  }

  check("every function behaves as documented: link-time optimization", async () => {
    assert.is(
      await outputOf(compiler, [`${PROGRAMS}/c-abi.c`, LIBRARY], ["-O2", "-flto", ...AS_WRITTEN]),
      "",
    );
  });
});

test.run();
