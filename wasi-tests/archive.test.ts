/** The static libraries as archives: every LLVM reads their index, and they depend on the sources alone. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ROOT } from "../tools/command.ts";
import { library } from "../tools/libraries.ts";
import { LLVMS, checker, symbols } from "./support-llvm.ts";

const FILES = [library("wasm32-wasi"), library("wasm32-emscripten", "mt-hardened")];

for (const llvm of LLVMS) {
  const check = checker(llvm, "ar", "nm");
  for (const name of FILES) {
    check(`the index of ${name} has the symbols that its members define`, async () => {
      const file = await readFile(path.join(ROOT, name));
      const { stdout } = await llvm.run("nm", ["--print-armap", "lib.a"], { "lib.a": file });
      const index = /^Archive map\n(.*?)\n\n/s.exec(stdout)![1]!.split("\n");
      const listed = index.map((line) => line.split(" in ")[0]);
      const defined = (await symbols(llvm, file)).filter(({ type }) => /[A-TVWX]/.test(type));
      assert.equal(listed.sort(), defined.map((symbol) => symbol.name).sort());
    });

    check(`the members of ${name} have no date and no owner`, async () => {
      const file = await readFile(path.join(ROOT, name));
      const { stdout } = await llvm.run("ar", ["tv", "lib.a"], { "lib.a": file });
      const members = stdout.trimEnd().split("\n");
      assert.ok(members.length > 0);
      for (const member of members)
        assert.match(member, /^rw-r--r-- +0\/0 +\d+ (?:Jan +1|Dec 31) .* (?:1970|1969) [\w-]+\.o$/);
    });
  }
}

test.run();
