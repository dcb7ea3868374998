// Bundles the pages into query/web/dist, which is committed: cargo needs no Node. The same sources give the same bytes.
//
//     index.html, viewer.css, viewer.js, judge.js, icon.svg   the viewer, as the server gives it out
//     patient.html, operator.html, their .js, pages.css       the other pages
//     demo.html, demo.js                                      the same with ways to break a copy; only `chordae demo` has them
//     strip.html                                              one file for `chordae pull --format html` to fill
//     sbom.cdx.json                                           what of others is in them (CycloneDX), for the package

import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { cyclonedxEsbuildPlugin } from "@cyclonedx/cyclonedx-esbuild";
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
    { in: src("demo/main.ts"), out: "demo" },
    { in: src("net/worker.ts"), out: "judge" },
    { in: src("ui/patient/app.ts"), out: "patient" },
    { in: src("ui/operator/app.ts"), out: "operator" },
    { in: src("ui/viewer.css"), out: "viewer" },
    { in: src("ui/pages.css"), out: "pages" },
  ],
  outdir: out,
  format: "esm",
});
copyFileSync(src("ui/icon.svg"), `${out}/icon.svg`);
for (const name of ["index.html", "patient/patient.html", "operator/operator.html"]) {
  // What pages have in common stands in parts.
  const part = (_, part) => readFileSync(src(`ui/parts/${part}.html`), "utf8").trimEnd();
  writeFileSync(`${out}/${basename(name)}`, readFileSync(src(`ui/${name}`), "utf8").replace(/^\{(\w+)\}$/gm, part));
}
const page = readFileSync(`${out}/index.html`, "utf8");
writeFileSync(`${out}/demo.html`, page.replace("viewer.js", "demo.js").replace("chordae viewer", "chordae demo"));
writeFileSync(`${out}/strip.html`, await strip());
writeFileSync(`${out}/sbom.cdx.json`, await bill(`${out}/sbom.cdx.json`));

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

/** The packages of which a file is in a page, by OWASP's own plugin, and of each the hash that npm held its download against. */
async function bill(outputFile) {
  const listing = cyclonedxEsbuildPlugin({ specVersion: "1.5", outputFile, outputReproducible: true, validate: false, logLevel: "error" });
  const entryPoints = ["ui/app.ts", "demo/main.ts", "ui/patient/app.ts", "ui/operator/app.ts", "net/worker.ts", "strip/main.ts"].map(src);
  const absWorkingDir = fileURLToPath(new URL(".", import.meta.url));
  await build({ ...common, absWorkingDir, entryPoints, outdir: out, write: false, metafile: true, plugins: [listing] });
  const made = JSON.parse(readFileSync(outputFile, "utf8"));
  const locks = ["./", "../chain/"].map((folder) => JSON.parse(readFileSync(new URL(`${folder}package-lock.json`, import.meta.url), "utf8")));
  for (const part of made.components) {
    const name = part.group ? `${part.group}/${part.name}` : part.name;
    const found = locks.map(({ packages }) => packages[`node_modules/${name}`]).find((it) => it?.version === part.version);
    // Our own have none: they are these sources.
    if (found?.integrity) part.hashes = [{ alg: "SHA-512", content: Buffer.from(found.integrity.slice(7), "base64").toString("hex") }];
  }
  return `${JSON.stringify(made, null, 2)}\n`;
}
