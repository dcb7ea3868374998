/** The grid of the paper: drawn once per size and density, then laid under each picture with a shift. */

import { CSS_DENSITY, GRID_SPEED_MIN, pxPerMs } from "../core/paper.js";
import { type Scene, frameOf } from "./scene.js";
import { COLOURS } from "./colours.js";

const BOX_MM = 5;

interface Kept {
  readonly key: string;
  readonly image: OffscreenCanvas;
}

/** Keeps the last grid. */
export class Grid {
  private kept: Kept | undefined;

  /** Lays it under a scene; `dpr` device pixels are one of the scene's. */
  draw(ctx: CanvasRenderingContext2D, scene: Scene, dpr: number): void {
    const { left, top, right, bottom } = frameOf(scene);
    const box = BOX_MM * scene.sheet.density;
    const vertical = scene.view.speed >= GRID_SPEED_MIN;
    const image = this.image(right - left + box, bottom - top, scene.sheet.density, vertical, dpr);
    // Lines are fixed to instants, so that the paper moves under the reader's eyes and not against the trace.
    const phase = vertical ? (scene.view.from * pxPerMs(scene.view, scene.sheet)) % box : 0;
    const shift = Math.round((phase < 0 ? phase + box : phase) * dpr) / dpr;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, right - left, bottom - top);
    ctx.clip();
    ctx.drawImage(image, left - shift, top, image.width / dpr, image.height / dpr);
    ctx.restore();
  }

  private image(width: number, height: number, density: number, vertical: boolean, dpr: number): OffscreenCanvas {
    const key = [width, height, density, vertical, dpr].join(" ");
    if (this.kept?.key !== key) this.kept = { key, image: drawn(width, height, density, vertical, dpr) };
    return this.kept.image;
  }
}

function drawn(width: number, height: number, density: number, vertical: boolean, dpr: number): OffscreenCanvas {
  const image = new OffscreenCanvas(Math.max(Math.ceil(width * dpr), 1), Math.max(Math.ceil(height * dpr), 1));
  const ctx = image.getContext("2d") as OffscreenCanvasRenderingContext2D;
  ctx.scale(dpr, dpr);
  ctx.fillStyle = COLOURS.paper;
  ctx.fillRect(0, 0, width, height);
  const unit = density / CSS_DENSITY;
  for (const [mm, colour, thick] of [[1, COLOURS.small, 0.5], [BOX_MM, COLOURS.large, 1]] as const) {
    ctx.strokeStyle = colour;
    ctx.lineWidth = thick * unit;
    ctx.beginPath();
    const step = mm * density;
    for (let k = 0; vertical && k * step <= width; k++) line(ctx, k * step, 0, k * step, height);
    for (let k = 0; k * step <= height; k++) line(ctx, 0, k * step, width, k * step);
    ctx.stroke();
  }
  return image;
}

function line(ctx: OffscreenCanvasRenderingContext2D, ax: number, ay: number, bx: number, by: number): void {
  ctx.moveTo(ax, ay);
  ctx.lineTo(bx, by);
}

