// What ships and what builds has a licence that is allowed, a hash and a pinned version; what ships is listed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { build } from "esbuild";
import { root, text } from "./common.mjs";

const SHIPS = ["MIT", "Apache-2.0", "0BSD"];
const BUILDS = [...SHIPS, "BSD-2-Clause", "BSD-3-Clause", "BlueOak-1.0.0", "CC-BY-3.0", "CC0-1.0", "ISC"];

test("every package has a licence that is allowed, a hash, and a pinned version", () => {
  const { packages } = JSON.parse(text("query/web/viewer/package-lock.json"));
  const { "": own, ...all } = packages;
  const others = Object.entries(all).filter(([name, { link }]) => name.startsWith("node_modules/") && !link);
  assert.ok(others.length > 5);
  for (const [name, { license, integrity, dev }] of others) {
    assert.ok((dev ? BUILDS : SHIPS).includes(license), `${name}: ${license}`);
    assert.match(integrity, /^sha512-/, name);
  }
  for (const version of Object.values({ ...own.dependencies, ...own.devDependencies })) assert.match(version, /^(\d|file:\.\.\/chain$)/);
  assert.deepEqual(Object.keys(own.dependencies), ["@hpke/chacha20poly1305", "@hpke/core", "apache-arrow", "chordae-chain"]);
});

/** Packages of others, `name version licence`, by a list. */
const listed = ({ components }) =>
  components.filter(({ hashes }) => hashes).map((it) => `${it.group ? `${it.group}/` : ""}${it.name} ${it.version} ${it.licenses[0].license.id}`);

test("the list of what ships is what the bundler takes in, as it is locked", async () => {
  const pages = ["ui/app.ts", "demo/main.ts", "ui/patient/app.ts", "ui/operator/app.ts", "net/worker.ts", "strip/main.ts"];
  const sources = pages.map((name) => `${root}query/web/viewer/src/${name}`);
  const options = { bundle: true, write: false, metafile: true, outdir: "nowhere", absWorkingDir: root, logLevel: "error" };
  const { metafile } = await build({ ...options, entryPoints: sources });
  const taken = new Set(Object.keys(metafile.inputs).map((path) => path.match(/^(.*\/)(node_modules\/(?:@[^/]+\/)?[^/]+)\//)).filter(Boolean).map(([, folder, name]) => `${folder} ${name}`));
  const locked = [...taken].map((it) => {
    const [folder, name] = it.split(" ");
    const { version, license } = JSON.parse(text(`${folder}package-lock.json`)).packages[name];
    return `${name.slice("node_modules/".length)} ${version} ${license}`;
  });
  const list = JSON.parse(text("query/web/dist/sbom.cdx.json"));
  assert.ok(locked.length >= 8);
  assert.deepEqual(listed(list).sort(), locked.sort());
  assert.ok(locked.every((it) => SHIPS.includes(it.split(" ")[2])));
  // The control: one that is taken out is missed.
  const less = { components: list.components.filter(({ name }) => name !== "flatbuffers") };
  assert.deepEqual(locked.filter((it) => !listed(less).includes(it)).map((it) => it.split(" ")[0]), ["flatbuffers"]);
});
