/** The badge and what it means, in words; the notes. */

import { type Badge, badge } from "../core/badge.js";
import { type Note } from "../core/notes.js";
import { clock } from "../core/time.js";
import { type Tile } from "../net/loader.js";
import { placeSpan } from "../core/tiles.js";
import { type Scene } from "./scene.js";
import { type Fact, drawingOf, lacksOf } from "./facts.js";
import { el, make, terms } from "./page.js";

const FINDINGS_SHOWN = 20;

export class Panel {
  private shown = "";

  constructor(
    private readonly goTo: (note: Note) => void,
    private readonly remove: (note: Note) => void,
    /** The view's: the next one listens for itself. */
    signal: AbortSignal,
  ) {
    const [button, panel] = [el("badge"), el("panel")];
    const open = (is: boolean) => {
      panel.hidden = !is;
      button.setAttribute("aria-expanded", String(is));
      (is ? el("panel-close") : button).focus();
    };
    button.addEventListener("click", () => open(panel.hidden === true), { signal });
    el("panel-close").addEventListener("click", () => open(false), { signal });
    const escape = (event: KeyboardEvent) => {
      if (event.key === "Escape") open(false);
    };
    panel.addEventListener("keydown", escape, { signal });
  }

  /** Tells what is known of a picture. Cheap where nothing changed: it is called for every one. */
  tell(scene: Scene, tiles: readonly Tile[], origin: string): Badge {
    const now = badge(scene.standings);
    const facts = factsOf(scene, tiles, origin);
    const text = JSON.stringify([now.word, facts]);
    if (text === this.shown) return now;
    this.shown = text;
    el("badge").hidden = false;
    el("badge").className = now.colour;
    el("badge-sign").textContent = now.sign;
    el("badge-word").textContent = now.word;
    el("panel-title").textContent = `${now.sign} ${now.word}`;
    el("panel-title").className = now.colour;
    el("panel-body").replaceChildren(make("p", now.sentence), terms(facts));
    return now;
  }

  notes(notes: readonly Note[]): void {
    const items = notes.map((note) => {
      const item = make("li");
      const go = make("button", `${clock(note.at, 3)}${note.lead === null ? "" : ` ${note.lead}`}`, { type: "button" });
      go.addEventListener("click", () => this.goTo(note));
      const gone = make("button", "Remove", { type: "button" });
      gone.addEventListener("click", () => this.remove(note));
      item.append(go, make("p", note.text), make("small", `${note.author}, ${clock(note.written)} `), gone);
      return item;
    });
    el("notes").replaceChildren(...items);
  }

  clear(): void {
    this.shown = "";
    el("badge").hidden = true;
    el("panel").hidden = true;
    el("panel-body").replaceChildren();
    el("notes").replaceChildren();
  }
}

function factsOf(scene: Scene, tiles: readonly Tile[], origin: string): Fact[] {
  const proofs = tiles.map((tile) => tile.proof);
  const facts: Fact[] = [["Ledger that your trust file names", origin]];
  const findings = tiles.flatMap((tile) => tile.proof.findings.map((f) => `${clock(placeSpan(tile.place).from)}: ${f.object}: ${f.detail} (${f.code})`));
  if (findings.length > 0) facts.push(["What does not match; these rows are not shown", ...findings.slice(0, FINDINGS_SHOWN)]);
  const trouble = new Set(tiles.flatMap((tile) => tile.trouble ?? []));
  if (trouble.size > 0) facts.push(["What the server did not answer", ...trouble]);
  const chunks = proofs.reduce((n, proof) => n + proof.chunks, 0);
  const anchored = proofs.filter((proof) => proof.anchoredTo !== null);
  const sizes = anchored.map((proof) => BigInt(proof.logSize ?? 0));
  const size = sizes.reduce((a, b) => (a > b ? a : b), 0n);
  facts.push(["Chunks recomputed here", `${chunks}, in ${tiles.length} parts of the picture; ${anchored.length} of them lead to the ledger (${size} entries)`]);
  facts.push(...lacksOf(proofs));
  facts.push(...drawingOf(scene.blanks.filter((blank) => blank.kind === "gap").length, scene.bands.map((band) => band.quality)));
  return facts;
}
