// Bundles the pages into query/web/dist, which is committed: cargo needs no Node. The same sources give the same bytes.
//
//     index.html, viewer.css, viewer.js, judge.js, icon.svg   the viewer, as the server gives it out
//     strip.html                                              one file for `chordae pull --format html` to fill

import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const out = process.argv[2] ?? fileURLToPath(new URL("../dist/", import.meta.url));
const src = (name) => fileURLToPath(new URL(`src/${name}`, import.meta.url));
const common = {
  bundle: true,
  target: ["chrome137", "firefox130", "safari17"],
  minify: true,
  legalComments: "eof",
  logLevel: "warning",
};

mkdirSync(out, { recursive: true });
await build({
  ...common,
  entryPoints: [
    { in: src("ui/app.ts"), out: "viewer" },
    { in: src("net/worker.ts"), out: "judge" },
    { in: src("ui/viewer.css"), out: "viewer" },
  ],
  outdir: out,
  format: "esm",
});
for (const name of ["index.html", "icon.svg"]) copyFileSync(src(`ui/${name}`), `${out}/${name}`);
writeFileSync(`${out}/strip.html`, await strip());

/** A page that may run this script, have this style, and do nothing else: load, connect, send or be built upon. */
async function strip() {
  const text = async (name) => {
    const { outputFiles } = await build({ ...common, entryPoints: [src(name)], format: "iife", write: false });
    const made = outputFiles[0].text.trim();
    // What would end its element early, or what a browser would read otherwise than it was hashed.
    if (/<!--|<\/?(script|style)|\r/i.test(made)) throw new Error(`${name} cannot stand in a page`);
    return made;
  };
  const parts = { script: await text("strip/main.ts"), style: await text("strip/strip.css") };
  const hash = (part) => `'sha256-${createHash("sha256").update(parts[part]).digest("base64")}'`;
  parts.policy = `default-src 'none'; script-src ${hash("script")}; style-src ${hash("style")}; base-uri 'none'; form-action 'none'`;
  // What stands in place of `{blocks}` comes with each strip.
  parts.blocks = "{blocks}";
  return readFileSync(src("strip/strip.html"), "utf8").replace(/\{(policy|style|blocks|script)\}/g, (_, name) => parts[name]);
}
