/** Grounds of what is not shown, told apart by their lines: leaning, crossed, dotted, level. */

import { COLOURS } from "./colours.js";
import { type Blank } from "./scene.js";

const TILE = 12;

type Ink = (ctx: OffscreenCanvasRenderingContext2D) => void;

const leaning: Ink = (ctx) => {
  for (const k of [-TILE, 0, TILE]) line(ctx, k, TILE, k + TILE, 0);
};
const PATTERNS: Record<Blank["kind"], { ground: string; ink: string; draw: Ink }> = {
  gap: { ground: COLOURS.blank, ink: COLOURS.hatch, draw: leaning },
  mismatch: {
    ground: COLOURS.mismatchPaper, ink: COLOURS.mismatch,
    draw: (ctx) => {
      line(ctx, 0, 0, TILE, TILE);
      line(ctx, 0, TILE, TILE, 0);
    },
  },
  pending: { ground: COLOURS.paper, ink: COLOURS.hatch, draw: (ctx) => line(ctx, TILE / 2, TILE / 2, TILE / 2 + 1, TILE / 2) },
  missing: { ground: COLOURS.paper, ink: COLOURS.outside, draw: leaning },
  outside: { ground: COLOURS.outside, ink: COLOURS.hatch, draw: (ctx) => line(ctx, 0, TILE / 2, TILE, TILE / 2) },
}; // prettier-ignore

export class Hatches {
  private readonly made = new Map<string, CanvasPattern>();

  fill(ctx: CanvasRenderingContext2D, kind: Blank["kind"], x: number, y: number, width: number, height: number, unit: number): void {
    const pattern = this.pattern(ctx, kind, unit);
    // Fixed to what it fills, so that it moves with the paper.
    pattern.setTransform(new DOMMatrix([1, 0, 0, 1, x, y]));
    ctx.fillStyle = pattern;
    ctx.fillRect(x, y, width, height);
  }

  private pattern(ctx: CanvasRenderingContext2D, kind: Blank["kind"], unit: number): CanvasPattern {
    const key = `${kind} ${unit}`;
    const kept = this.made.get(key) ?? make(ctx, kind, unit);
    this.made.set(key, kept);
    return kept;
  }
}

function make(on: CanvasRenderingContext2D, kind: Blank["kind"], unit: number): CanvasPattern {
  const { ground, ink, draw } = PATTERNS[kind];
  const image = new OffscreenCanvas(Math.round(TILE * unit), Math.round(TILE * unit));
  const ctx = image.getContext("2d") as OffscreenCanvasRenderingContext2D;
  ctx.scale(image.width / TILE, image.height / TILE);
  ctx.fillStyle = ground;
  ctx.fillRect(0, 0, TILE, TILE);
  ctx.strokeStyle = ink;
  ctx.lineWidth = 1.2;
  ctx.beginPath();
  draw(ctx);
  ctx.stroke();
  return on.createPattern(image, "repeat") as CanvasPattern;
}

function line(ctx: OffscreenCanvasRenderingContext2D, ax: number, ay: number, bx: number, by: number): void {
  ctx.moveTo(ax, ay);
  ctx.lineTo(bx, by);
}
