// What ships and what builds has a licence that is allowed, a hash and a pinned version.

import assert from "node:assert/strict";
import { test } from "node:test";
import { text } from "./common.mjs";

test("every package has a licence that is allowed, a hash, and a pinned version", () => {
  const { packages } = JSON.parse(text("query/web/viewer/package-lock.json"));
  const { "": own, ...all } = packages;
  const others = Object.entries(all).filter(([name, { link }]) => name.startsWith("node_modules/") && !link);
  assert.ok(others.length > 5);
  for (const [name, { license, integrity }] of others) {
    assert.ok(["MIT", "Apache-2.0", "0BSD"].includes(license), `${name}: ${license}`);
    assert.match(integrity, /^sha512-/, name);
  }
  for (const version of Object.values({ ...own.dependencies, ...own.devDependencies })) assert.match(version, /^(\d|file:\.\.\/chain$)/);
  assert.deepEqual(Object.keys(own.dependencies), ["apache-arrow", "chordae-chain"]);
});
