// Bundles the page into query/web/dist, which is committed: cargo needs no Node. The same sources give the same bytes.

import { copyFileSync, mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const out = process.argv[2] ?? fileURLToPath(new URL("../dist/", import.meta.url));
const src = (name) => fileURLToPath(new URL(`src/${name}`, import.meta.url));

mkdirSync(out, { recursive: true });
await build({
  entryPoints: { viewer: src("ui/app.ts"), judge: src("net/worker.ts") },
  outdir: out,
  bundle: true,
  format: "esm",
  target: ["chrome137", "firefox130", "safari17"],
  minify: true,
  legalComments: "eof",
  logLevel: "warning",
});
for (const name of ["index.html", "viewer.css", "icon.svg"]) copyFileSync(src(`ui/${name}`), `${out}/${name}`);
