/** Draws a scene: grid, blanks, traces, words. Nothing here decides what is shown; see `scene.ts`. */

import { march, measure, told } from "../core/calipers.js";
import { NO_VALUE, voidsOf } from "../core/gaps.js";
import { type Strip } from "../core/layout.js";
import { draw as drawLine } from "../core/line.js";
import { GRID_SPEED_MIN, heightOf, msAt, mvPer, pxPerMs, spanOf, ticks, xOf } from "../core/paper.js";
import { DAY, SECOND, type Span, clock, length } from "../core/time.js";
import { type LeadPart, type Piece } from "../net/part.js";
import { COLOURS } from "./colours.js";
import { Grid } from "./grid.js";
import { type Blank, type Scene, frameOf, unitOf } from "./scene.js";
import { Hatches } from "./hatches.js";

const PULSE_MS = 200;
const LABEL_APART_PX = 130;
/** The narrowest that a gap is drawn, so that none is lost in a day. */
const BLANK_PX_MIN = 2;
const WORDS_PX_MIN = 60;
/** What the names of leads take at the left edge. */
const NAMES_PX = 44;

type Context = CanvasRenderingContext2D;

/** A lead's line, as long as its scale stays the same. */
interface Line {
  readonly key: string;
  readonly path: Path2D;
}

/** One surface's painter: keeps grid, hatches and lines from picture to picture. */
export class Painter {
  private readonly grid = new Grid();
  private readonly hatches = new Hatches();
  private readonly lines = new WeakMap<Piece, Map<string, Line>>();
  private readonly voids = new WeakMap<LeadPart, Span[]>();

  paint(ctx: Context, scene: Scene, dpr: number): void {
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    this.grid.draw(ctx, scene, dpr);
    this.blanks(ctx, scene);
    for (const strip of scene.strips) this.strip(ctx, scene, strip);
    pulses(ctx, scene);
    axis(ctx, scene);
    band(ctx, scene);
    notes(ctx, scene);
    calipers(ctx, scene);
  }

  private blanks(ctx: Context, scene: Scene): void {
    const { left, top, right, bottom } = frameOf(scene);
    for (const blank of scene.blanks) {
      const [a, b] = [blank.from, blank.until].map((t) => left + xOf(t, scene.view, scene.sheet)) as [number, number];
      const from = Math.max(a, left);
      const width = Math.max(Math.min(b, right) - from, BLANK_PX_MIN);
      if (from >= right || from + width <= left) continue;
      this.hatches.fill(ctx, blank.kind, from, top, width, bottom - top, unitOf(scene.sheet));
      words(ctx, scene, blank, from, width);
    }
  }

  /** One strip: its lead's pieces, joined where they follow each other; hatched where the lead has no values. */
  private strip(ctx: Context, scene: Scene, strip: Strip): void {
    const { left, top, right, bottom } = frameOf(scene);
    const [x0, x1] = [strip.left, strip.right].map((part) => left + part * (right - left)) as [number, number];
    const base = top + strip.base * (bottom - top);
    const scale = pxPerMs(scene.view, scene.sheet);
    ctx.save();
    ctx.beginPath();
    ctx.rect(x0, top, x1 - x0, bottom - top);
    ctx.clip();
    ctx.strokeStyle = COLOURS.trace;
    // A pixel wide and without round joins: several times as fast where no graphics card helps. The cap shows a lone sample.
    ctx.lineWidth = unitOf(scene.sheet);
    ctx.lineJoin = "bevel";
    ctx.lineCap = "round";
    let before: { piece: Piece; lead: LeadPart } | undefined;
    for (const piece of scene.pieces) {
      const lead = piece.leads.find((one) => one.name === strip.lead);
      if (!lead) continue;
      const start = piece.times[0] as number;
      const x = left + xOf(start, scene.view, scene.sheet);
      const end = x + ((piece.times.at(-1) as number) - start) * scale;
      if (end < x0 || x > x1) {
        before = { piece, lead };
        continue;
      }
      const perCode = heightOf((mvPer(lead.unit) ?? 1) / lead.gain, scene.gain, scene.sheet);
      this.void(ctx, scene, piece, lead, [left, base, strip.height * (bottom - top)]);
      const y = base + lead.baseline * perCode;
      ctx.translate(x, y);
      ctx.stroke(this.line(piece, lead, start, scale, perCode));
      ctx.translate(-x, -y);
      if (before) join(ctx, before, { piece, lead }, scene, left, base);
      before = { piece, lead };
    }
    ctx.restore();
    label(ctx, scene, strip, x0, base - 0.36 * strip.height * (bottom - top));
  }

  private line(piece: Piece, lead: LeadPart, from: number, scale: number, perCode: number): Path2D {
    const own = this.lines.get(piece) ?? new Map<string, Line>();
    this.lines.set(piece, own);
    const key = `${scale} ${perCode}`;
    const kept = own.get(lead.name);
    if (kept?.key === key) return kept.path;
    const path = new Path2D();
    drawLine(path, { times: piece.times, low: lead.low, high: lead.high }, piece.apart, { from, pxPerMs: scale, y0: 0, perCode });
    own.set(lead.name, { key, path });
    return path;
  }

  private void(ctx: Context, scene: Scene, piece: Piece, lead: LeadPart, [left, base, height]: [number, number, number]): void {
    const known = this.voids.get(lead) ?? voidsOf(piece.times, lead.low, piece.apart / 1.5);
    this.voids.set(lead, known);
    for (const { from, until } of known) {
      const [a, b] = [from, until].map((t) => left + xOf(t, scene.view, scene.sheet)) as [number, number];
      this.hatches.fill(ctx, "gap", a, base - 0.2 * height, Math.max(b - a, BLANK_PX_MIN), 0.4 * height, unitOf(scene.sheet));
    }
  }
}

/** From the last sample of a piece to the first of the next one, where nothing is missing between them. */
function join(ctx: Context, a: { piece: Piece; lead: LeadPart }, b: { piece: Piece; lead: LeadPart }, scene: Scene, left: number, base: number): void {
  const [t, u] = [a.piece.times.at(-1) as number, b.piece.times[0] as number];
  const [from, until] = [a.lead.high.at(-1) as number, b.lead.low[0] as number];
  if (u - t > Math.max(a.piece.apart, b.piece.apart) || u < t || Math.min(from, until) === NO_VALUE) return;
  const y = (lead: LeadPart, code: number) => {
    const mv = ((code - lead.baseline) / lead.gain) * (mvPer(lead.unit) ?? 1);
    return base - heightOf(mv, scene.gain, scene.sheet);
  };
  ctx.beginPath();
  ctx.moveTo(left + xOf(t, scene.view, scene.sheet), y(a.lead, from));
  ctx.lineTo(left + xOf(u, scene.view, scene.sheet), y(b.lead, until));
  ctx.stroke();
}

function font(scene: Scene, px: number, weight = ""): string {
  return `${weight} ${px * unitOf(scene.sheet)}px system-ui, sans-serif`;
}

/** Words on their own ground, so that a trace below does not make them unreadable. */
function onGround(ctx: Context, text: string, x: number, y: number, colour: string, ground: string = COLOURS.paper): void {
  const { width, actualBoundingBoxAscent: up, actualBoundingBoxDescent: down } = ctx.measureText(text);
  ctx.fillStyle = ground;
  ctx.fillRect(x - 2, y - up - 2, width + 4, up + down + 4);
  ctx.fillStyle = colour;
  ctx.fillText(text, x, y);
}

function label(ctx: Context, scene: Scene, { lead }: Strip, x: number, y: number): void {
  const part = scene.pieces.flatMap((piece) => piece.leads).find((one) => one.name === lead);
  const unit = part && mvPer(part.unit) === null ? ` (${part.unit})` : "";
  ctx.font = font(scene, 13, "bold");
  onGround(ctx, lead + unit, x + 4 * unitOf(scene.sheet), y, COLOURS.text);
}

function words(ctx: Context, scene: Scene, blank: Blank, x: number, width: number): void {
  if (width < WORDS_PX_MIN * unitOf(scene.sheet)) return;
  const { left, top, bottom } = frameOf(scene);
  const lasts = Number.isFinite(blank.until - blank.from) && blank.kind === "gap" ? ` ${length(blank.until - blank.from)}` : "";
  ctx.font = font(scene, 12, blank.kind === "mismatch" ? "bold" : "");
  ctx.save();
  ctx.beginPath();
  ctx.rect(x, top, width, bottom - top);
  ctx.clip();
  const beside = x > left ? 6 : NAMES_PX * unitOf(scene.sheet);
  onGround(ctx, blank.words + lasts, x + beside, (top + bottom) / 2, blank.kind === "mismatch" ? COLOURS.mismatch : COLOURS.text);
  ctx.restore();
}

/** The calibration pulse of each row: 1 mV, 200 ms, as this picture draws them. */
function pulses(ctx: Context, scene: Scene): void {
  const { left, top, bottom } = frameOf(scene);
  const mm = scene.sheet.density;
  const width = Math.min(Math.max(PULSE_MS * pxPerMs(scene.view, scene.sheet), 1 * mm), 10 * mm);
  ctx.fillStyle = COLOURS.paper;
  ctx.fillRect(0, 0, left, scene.height);
  ctx.strokeStyle = COLOURS.trace;
  ctx.lineWidth = 1.2 * unitOf(scene.sheet);
  for (const strip of scene.strips.filter((one) => one.left === 0)) {
    const base = top + strip.base * (bottom - top);
    const up = base - heightOf(1, scene.gain, scene.sheet);
    const x = (left - width) / 2;
    ctx.beginPath();
    ctx.moveTo(x - 2 * mm, base);
    for (const [px, py] of [[x, base], [x, up], [x + width, up], [x + width, base], [x + width + 2 * mm, base]] as const) {
      ctx.lineTo(px, py);
    }
    ctx.stroke();
  }
}

function axis(ctx: Context, scene: Scene): void {
  const { left, top, bottom } = frameOf(scene);
  const unit = unitOf(scene.sheet);
  ctx.fillStyle = COLOURS.paper;
  ctx.fillRect(left, 0, scene.width - left, top);
  ctx.fillStyle = COLOURS.text;
  ctx.strokeStyle = COLOURS.hatch;
  ctx.lineWidth = unit;
  ctx.font = font(scene, 11);
  const { at, step } = ticks(scene.view, scene.sheet, LABEL_APART_PX * unit);
  for (const t of at) {
    const x = left + xOf(t, scene.view, scene.sheet);
    ctx.beginPath();
    ctx.moveTo(x, 0);
    // Without the grid's lines a label needs one of its own.
    ctx.lineTo(x, scene.view.speed < GRID_SPEED_MIN ? bottom : top);
    ctx.stroke();
    const text = step < SECOND ? clock(t, 3).slice(11) : step < DAY ? clock(t).slice(11) : clock(t).slice(0, 10);
    ctx.fillText(text, x + 3 * unit, top - 5 * unit);
  }
}

/** The clock band: a solid, a dashed or a dotted line, and words. */
const CLOCKS: Record<string, readonly [number[], string]> = {
  synced: [[], "clock synced"],
  "free-running": [[10, 5], "clock runs free: times mapped from receipt"],
  unknown: [[2, 4], "clock of unknown quality"],
};

function band(ctx: Context, scene: Scene): void {
  const { left, right, bottom } = frameOf(scene);
  const unit = unitOf(scene.sheet);
  ctx.fillStyle = COLOURS.paper;
  ctx.fillRect(left, bottom, right - left, scene.height - bottom);
  ctx.font = font(scene, 10);
  for (const { from, until, quality } of scene.bands) {
    const [dash, text] = CLOCKS[quality] ?? [[1, 1], quality];
    const [a, b] = [from, until].map((t) => left + xOf(t, scene.view, scene.sheet)) as [number, number];
    const x = Math.max(a, left);
    ctx.strokeStyle = COLOURS.text;
    ctx.lineWidth = 2 * unit;
    ctx.setLineDash(dash.map((d) => d * unit));
    ctx.beginPath();
    ctx.moveTo(x, bottom + 2 * unit);
    ctx.lineTo(Math.min(b, right), bottom + 2 * unit);
    ctx.stroke();
    ctx.setLineDash([]);
    ctx.fillStyle = COLOURS.text;
    if (Math.min(b, right) - x > ctx.measureText(text).width + 8 * unit) ctx.fillText(text, x + 4 * unit, scene.height - 3 * unit);
  }
}

function notes(ctx: Context, scene: Scene): void {
  const { left, top, bottom } = frameOf(scene);
  const unit = unitOf(scene.sheet);
  const { from, until } = spanOf(scene.view, scene.sheet);
  ctx.font = font(scene, 11, "bold");
  scene.notes.forEach((note, place) => {
    if (note.at < from || note.at >= until) return;
    const x = left + xOf(note.at, scene.view, scene.sheet);
    ctx.strokeStyle = COLOURS.note;
    ctx.lineWidth = unit;
    ctx.setLineDash([3 * unit, 3 * unit]);
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, bottom);
    ctx.stroke();
    ctx.setLineDash([]);
    onGround(ctx, `⚑${place + 1} ${note.text.slice(0, 24)}`, x + 2 * unit, top + 12 * unit, COLOURS.note);
  });
}

function calipers(ctx: Context, scene: Scene): void {
  const { calipers: found, view, sheet } = scene;
  if (!found) return;
  const { left, top, right, bottom } = frameOf(scene);
  const unit = unitOf(sheet);
  const x = (t: number) => left + xOf(t, view, sheet);
  ctx.strokeStyle = COLOURS.calipers;
  const line = (t: number, wide: number, dash: number[]) => {
    ctx.lineWidth = wide * unit;
    ctx.setLineDash(dash.map((d) => d * unit));
    ctx.beginPath();
    ctx.moveTo(x(t), top);
    ctx.lineTo(x(t), bottom);
    ctx.stroke();
  };
  for (const t of march(found, { from: view.from, until: msAt(right - left, view, sheet) })) line(t, 0.7, [2, 4]);
  line(found.from, 1.6, []);
  line(found.until, 1.6, [8, 3]);
  ctx.setLineDash([]);
  ctx.font = font(scene, 13, "bold");
  const middle = (x(found.from) + x(found.until)) / 2;
  onGround(ctx, told(measure(found)), Math.min(Math.max(middle, left + 4), right - 220 * unit), top + 30 * unit, COLOURS.calipers);
}
