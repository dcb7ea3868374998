/**
 * The page of a strip: reads the blocks it carries, checks them, and only then draws.
 *
 *     blocks ─▶ check, by the keys in the file ─▶ badge, facts, lines
 *                 ▲
 *     a trust file of the reader's own, chosen or pasted
 *
 * It asks nobody: its policy lets it load nothing and connect to nothing.
 */

import { BadInput } from "chordae-chain";
import { type Badge, type Standing, badge } from "../core/badge.js";
import { clock, msOf } from "../core/time.js";
import { type Part } from "../net/part.js";
import { Painter } from "../ui/draw.js";
import { type Fact, drawingOf, lacksOf } from "../ui/facts.js";
import { el, make, terms } from "../ui/page.js";
import { type Strip, readStrip } from "./blocks.js";
import { type Checked, check } from "./check.js";
import { GAIN, type Line, SPEED, linesOf } from "./lines.js";
import { type Pinned, pinned } from "./pinned.js";
import { type By, CHECKING, found, unable } from "./words.js";

const FINDINGS_SHOWN = 20;

function tell({ colour, sign, word, sentence }: Badge): void {
  el("badge").className = colour;
  el("badge-sign").textContent = sign;
  el("badge-word").textContent = word;
  el("sentence").textContent = sentence;
}

/** Takes back what an earlier check showed, lets that be seen, and checks. */
async function run(strip: Strip, trustText: string, by: By): Promise<void> {
  clear();
  tell(CHECKING);
  await new Promise((painted) => setTimeout(painted, 50));
  try {
    show(strip, check(strip, trustText), by);
  } catch (e) {
    clear();
    tell(unable(inWords(e)));
  }
}

function clear(): void {
  for (const id of ["lines", "facts", "keys"]) el(id).replaceChildren();
}

function show(strip: Strip, { part, trust }: Checked, by: By): void {
  const lines = linesOf(part);
  el("lines").replaceChildren(...lines.map((line) => figure(line, strip, part.proof.standing)));
  el("facts").replaceChildren(terms(factsOf(strip, part, trust.origin)));
  el("keys-title").textContent = by === "file" ? "Keys that this file carries" : "Keys of your trust file";
  el("warning").hidden = by === "reader";
  el("keys").replaceChildren(terms(pinned(trust).map(keyOf)));
  // Last of all: a badge never stands above what is still being drawn.
  tell(found(part.proof.standing, by));
}

function keyOf({ role, name, fingerprint, retired }: Pinned): Fact {
  return [name === role ? role : `${role} ${name}`, fingerprint, ...(retired === null ? [] : [`retired: counts up to size ${retired} of the log`])];
}

/** Each line says all that a reader must know: it may be the only page that is printed. */
function figure(line: Line, { asked }: Strip, standing: Standing): HTMLElement {
  const canvas = make("canvas", "", { role: "img" }) as HTMLCanvasElement;
  [canvas.width, canvas.height] = [line.scene.width, line.scene.height];
  [canvas.style.width, canvas.style.height] = [`${line.widthMm}mm`, `${line.heightMm}mm`];
  new Painter().paint(canvas.getContext("2d", { alpha: false }) as CanvasRenderingContext2D, line.scene, 1);
  const [from, until] = [clock(line.span.from, 3), clock(line.span.until, 3).slice(11)];
  const { sign, word } = badge([standing]);
  const drawn = `${SPEED} mm/s · ${GAIN} mm/mV · filter: none`;
  const caption = `${from} to ${until} UTC · ${drawn} · stream ${asked.did} · ${sign} ${word} · NOT FOR DIAGNOSIS`;
  canvas.setAttribute("aria-label", `ECG, leads ${line.scene.strips.map((strip) => strip.lead).join(", ")}`);
  const made = make("figure");
  made.append(make("figcaption", caption), canvas);
  return made;
}

function factsOf(strip: Strip, part: Part, origin: string): Fact[] {
  const { proof } = part;
  const facts: Fact[] = [];
  const findings = proof.findings.map((f) => `${f.object}: ${f.detail} (${f.code})`);
  if (findings.length > 0) facts.push(["What does not match", ...findings.slice(0, FINDINGS_SHOWN)]);
  const anchored = proof.anchoredTo === null ? "none of it leads to the ledger" : `up to chunk ${proof.anchoredTo} in the ledger, which had ${proof.logSize} entries`;
  facts.push(["Ledger", origin], ["Chunks recomputed here", `${proof.chunks}; ${anchored}`], ...lacksOf([proof]));
  if (proof.standing !== "mismatch") facts.push(...drawingOf(part.gaps.length, part.qualities.map((one) => one.quality)));
  facts.push(["Made", `${clock(msOf(strip.madeNs))} UTC, says the file`]);
  return facts;
}

/** What the file says it is about; that its rows are this is what the badge says. */
function title({ asked }: Strip): void {
  const [from, until] = [asked.fromNs, asked.untilNs].map((ns) => clock(msOf(ns), 3));
  const leads = asked.leads === null ? "all leads" : `of its leads only ${asked.leads.join(", ")}`;
  el("window").textContent = `${from} to ${until} UTC · stream ${asked.did} · ${leads}`;
  document.title = `ECG strip ${from} UTC`;
}

function inWords(e: unknown): string {
  return e instanceof BadInput ? e.message : `the verifier broke: ${e instanceof Error ? e.message : e}`;
}

function listen(strip: Strip): void {
  const own = el<HTMLTextAreaElement>("own");
  el("own-file").addEventListener("change", async () => {
    const file = el<HTMLInputElement>("own-file").files?.[0];
    if (file) own.value = await file.text();
    if (file) await run(strip, own.value, "reader");
  });
  el("own-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = own.value.trim();
    void (text === "" ? run(strip, strip.trust, "file") : run(strip, text, "reader"));
  });
}

try {
  const strip = readStrip((name) => document.getElementById(name)?.textContent ?? null);
  title(strip);
  listen(strip);
  void run(strip, strip.trust, "file");
} catch (e) {
  tell(unable(inWords(e)));
}
