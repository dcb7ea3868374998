/** What a reader can do to the picture, by button or key: one table for both, so that neither lacks what the other has. */

export type Command =
  | "start" | "back" | "on" | "end" | "live" | "in" | "out" | "day" | "hour" | "slow" | "usual" | "fast" | "gain"
  | "layout" | "calipers" | "note" | "print" | "pageback" | "pageon" | "higher" | "lower" | "escape" | "uncalibrate" | "leave"; // prettier-ignore

const KEYS: Record<string, Command> = {
  Home: "start", ArrowLeft: "back", ArrowRight: "on", End: "end", PageUp: "pageback", PageDown: "pageon",
  ArrowUp: "higher", ArrowDown: "lower", "+": "in", "=": "in", "-": "out", d: "day", h: "hour", 1: "slow", 2: "usual",
  3: "fast", g: "gain", l: "layout", c: "calipers", n: "note", p: "print", v: "live", Escape: "escape",
}; // prettier-ignore

/** For the list under "More". */
export const HELP: [string, string][] = [
  ["← →", "earlier, later; with calipers: move the second one, with Shift the first"],
  ["Page Up, Page Down", "a screen earlier, later"],
  ["Home, End", "beginning of the grant, now"],
  ["+ −", "nearer, further away"],
  ["1 2 3", "12.5, 25, 50 mm/s"],
  ["d h", "a day, an hour"],
  ["g l", "next gain, next layout"],
  ["c n", "calipers, a note"],
  ["↑ ↓", "with calipers: move the second point up, down; with Shift the first"],
  ["v p", "live, print"],
  ["Esc", "put the calipers away"],
];

/** The command of a key, on the paper. */
export function commandOf(event: KeyboardEvent): Command | undefined {
  return event.ctrlKey || event.metaKey || event.altKey ? undefined : KEYS[event.key];
}
