/** Each file of the core imports only files that src/README.md lists above it. */
import { readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { test } from "uvu";
import * as assert from "uvu/assert";
import { ROOT } from "../tools/command.ts";

const SRC = path.join(ROOT, "src");
const read = (file: string) => readFileSync(path.join(SRC, file), "utf8");

const order = [...read("README.md").matchAll(/^\d+\. (.*?):/gm)].flatMap(([, names]) =>
  [...names!.matchAll(/`([\w-]+)`/g)].map(([, name]) => name!),
);

test("src/README.md lists every file of src/ exactly once", () => {
  const files = readdirSync(SRC).filter((file) => file.endsWith(".ts"));
  assert.equal(order.toSorted(), files.map((file) => file.replace(/\.ts$/, "")).sort());
});

for (const [index, name] of order.entries()) {
  test(`src/${name}.ts imports only files listed above it`, () => {
    const imports = [...read(`${name}.ts`).matchAll(/\b(?:from|import) "(.*?)"/g)].map(([, from]) => from!);
    const above = order.slice(0, index).map((other) => `./${other}`);
    assert.equal(
      imports.filter((from) => !above.includes(from)),
      [],
    );
  });
}

test.run();
