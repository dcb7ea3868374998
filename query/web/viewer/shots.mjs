// Makes the README's pictures, from `chordae demo` as it is: its stream on paper, checked, and the same answer with one bit changed on
// its way. Nothing is staged but the size of the window. Needs the debug binary (`cargo build`), and of Debian chromium and
// pngquant; a minute and a half.
//
//     npm run shots [-- FOLDER]      docs/images unless another folder is named

import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Reader, browser } from "./tests/browser/reader.mjs";

const OUT = process.argv[2] ?? fileURLToPath(new URL("../../../docs/images", import.meta.url));
const BIN = process.env.CHORDAE_BIN ?? fileURLToPath(new URL("../../../target/debug/chordae", import.meta.url));
/** Seconds that lie behind us when a slot of ten is sealed and anchored, with room. */
const BEHIND = 45;
const SIZE = { width: 1280, height: 720 };

const folder = mkdtempSync(join(tmpdir(), "chordae-shots-"));
const data = join(folder, "data");
const demo = spawn(BIN, ["demo", "--data", data], { stdio: ["ignore", "pipe", "inherit"] });
const chrome = await browser();
try {
  const begun = Date.now();
  const url = await address();
  await new Promise((go) => setTimeout(go, begun + (BEHIND + 30) * 1000 - Date.now()));
  const ward = { url, trust: join(data, "keys/trust.json"), roe: join(data, "demo/ann.pem") };
  mkdirSync(OUT, { recursive: true });

  const reader = await Reader.at(ward, chrome, { viewport: SIZE });
  await toThePast(reader);
  await reader.badge("green");
  await shot(reader, "viewer.png");
  await reader.close();

  const tampered = await Reader.at(ward, chrome, { viewport: SIZE });
  await tampered.page.route(/\/window\?.*format=arrow$/, async (route) => {
    const answer = await route.fetch();
    const body = await answer.body();
    body[Math.floor(body.length / 2)] ^= 1;
    await route.fulfill({ response: answer, body });
  });
  await toThePast(tampered);
  await tampered.badge("red");
  await tampered.page.click("#badge");
  await shot(tampered, "red.png");
  await tampered.close();
} finally {
  await chrome.close();
  demo.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}

/** Where the demo says that a browser finds it; what it goes on to say is read. */
function address() {
  return new Promise((found, failed) => {
    const lines = createInterface({ input: demo.stdout });
    lines.on("line", (line) => {
      const [, url] = /a browser at (http:\S+)\//.exec(line) ?? [];
      if (url) found(url);
    });
    lines.on("close", () => failed(new Error("the demo ended")));
  });
}

async function toThePast(reader) {
  const { page, ward } = reader;
  await page.setInputFiles("#trust-file", ward.trust);
  await page.setInputFiles("#key-file", ward.roe);
  await page.click("#connect-form button");
  await page.click("#grants button >> nth=0");
  await page.waitForFunction(() => document.querySelector("#paper").dataset.from);
  await reader.goTo(Date.now() - BEHIND * 1000);
}

async function shot(reader, name) {
  await reader.shown();
  const path = join(OUT, name);
  await reader.page.screenshot({ path });
  execFileSync("pngquant", ["--quality", "60-90", "--speed", "1", "--strip", "--force", "--output", path, path]);
  console.log(`${path}: ${Math.ceil(statSync(path).size / 1024)} KiB`);
}
