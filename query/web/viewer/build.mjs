// Bundles the page into query/web/dist, which is committed: cargo needs no Node. The same sources give the same bytes.

import { copyFileSync, mkdirSync } from "node:fs";
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
