// What ships is MIT; what only builds may be Apache-2.0 as well (the compiler).

import assert from "node:assert/strict";
import { test } from "node:test";
import { golden } from "./common.mjs";

test("every package has a licence that is allowed, a hash, and a pinned version", () => {
  const { packages } = JSON.parse(golden("query/web/chain/package-lock.json"));
  const { "": own, ...others } = packages;
  for (const [name, { license, dev, integrity }] of Object.entries(others)) {
    assert.ok(license === "MIT" || (dev && license === "Apache-2.0"), `${name}: ${license}`);
    assert.match(integrity, /^sha512-/, name);
  }
  for (const version of Object.values({ ...own.dependencies, ...own.devDependencies })) assert.match(version, /^\d/);
  assert.deepEqual(Object.keys(own.dependencies), ["@noble/curves", "@noble/hashes"]);
});
