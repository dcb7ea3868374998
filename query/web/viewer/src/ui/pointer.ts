/** Mouse, pen and fingers on the paper. One drags, two stretch, the wheel zooms; a drag that measures sets calipers. */

export interface Hand {
  /** By pixels since the last call. */
  pan(px: number): void;
  /** By a factor, about a point. */
  zoom(factor: number, x: number): void;
  /** Whether a drag measures. */
  measures(): boolean;
  /** A drag that measures, from where it began to where it is; `begins` once, at its beginning. */
  measure(x: number, y: number, begins: boolean): void;
}

const WHEEL = 0.0015;
const LINE_PX = 16;

export function listen(on: HTMLElement, hand: Hand, signal: AbortSignal): void {
  const down = new Map<number, { x: number; y: number }>();
  const place = (event: PointerEvent | WheelEvent) => {
    const { left, top } = on.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  };
  on.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    on.setPointerCapture(event.pointerId);
    const at = place(event);
    down.set(event.pointerId, at);
    if (down.size === 1 && hand.measures()) hand.measure(at.x, at.y, true);
  }, { signal });
  on.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    const at = place(event);
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    down.set(event.pointerId, at);
    if (other) {
      const [was, is] = [Math.abs(before.x - other.x), Math.abs(at.x - other.x)];
      if (was > 8 && is > 8) hand.zoom(is / was, (at.x + other.x) / 2);
    } else if (hand.measures()) hand.measure(at.x, at.y, false);
    else hand.pan(before.x - at.x);
  }, { signal });
  const up = (event: PointerEvent) => down.delete(event.pointerId);
  on.addEventListener("pointerup", up, { signal });
  on.addEventListener("pointercancel", up, { signal });
  on.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const px = event.deltaMode === 0 ? 1 : LINE_PX;
      const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
      if (sideways) hand.pan((event.deltaX || event.deltaY) * px);
      else hand.zoom(Math.exp(-event.deltaY * px * WHEEL), place(event).x);
    },
    { passive: false, signal },
  );
}
