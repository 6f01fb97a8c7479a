// Runs under any Node, before anything that an old one would stumble over.
"use strict";
var OLDEST = 20;
if (Number(process.versions.node.split(".")[0]) < OLDEST) {
  console.error(
    "this needs Node.js " + OLDEST + " or later and found " + process.versions.node + ": install a newer one",
  );
  process.exit(1);
}
