/** The printed page: drawn anew for paper, so that 25 mm/s is 25 mm/s on it, with what a reader must know beside it. */

import { type Badge } from "../core/badge.js";
import { spanOf } from "../core/paper.js";
import { clock } from "../core/time.js";
import { type Painter } from "./draw.js";
import { el, make } from "./page.js";
import { type Scene } from "./scene.js";

/** Pixels of a printed millimetre: 254 dpi. */
export const PRINT_DENSITY = 10;
/** As the style sheet has them. */
export const PRINT_MM = { width: 281, height: 168 };

export function print(painter: Painter, scene: Scene, about: { did: string; badge: Badge; now: number }): void {
  const canvas = el<HTMLCanvasElement>("print-paper");
  [canvas.width, canvas.height] = [scene.width, scene.height];
  painter.paint(canvas.getContext("2d") as CanvasRenderingContext2D, scene, 1);
  const { from, until } = spanOf(scene.view, scene.sheet);
  const speed = `${Number(scene.view.speed.toPrecision(3))} mm/s · ${scene.gain} mm/mV · filter: none`;
  el("print-head").replaceChildren(
    make("p", `NOT FOR DIAGNOSIS · stream ${about.did}`),
    make("p", `${clock(from, 3)} to ${clock(until, 3)} UTC · ${speed}`),
    make("p", `Integrity, checked in this browser: ${about.badge.sign} ${about.badge.word}. ${about.badge.sentence}`),
  );
  const notes = scene.notes.flatMap((note, i) =>
    note.at >= from && note.at < until ? [`⚑${i + 1} ${clock(note.at, 3)} ${note.text} (${note.author})`] : [],
  );
  el("print-foot").replaceChildren(make("p", `Printed ${clock(about.now)} UTC at 100 %: a large box is 5 mm.`), ...notes.map((line) => make("p", line)));
}

/** Frees what the page took: a bitmap of a sheet is 20 MB. */
export function printed(): void {
  const canvas = el<HTMLCanvasElement>("print-paper");
  [canvas.width, canvas.height] = [0, 0];
}
