/** What became of the last thing that was asked for, in one place of the page. */

import { inWords } from "./entry.js";
import { el } from "./page.js";

export function say(words: string, bad = false): void {
  el("said").textContent = words;
  el("said").className = bad ? "bad" : "";
}

/** Does it, and tells what went wrong. Whether it was done. */
export async function trying(what: () => Promise<void>): Promise<boolean> {
  try {
    await what();
    return true;
  } catch (e) {
    say(inWords(e), true);
    return false;
  }
}

/** A button, or a form, does one thing at a time. */
export function once(id: string, name: "click" | "submit", what: () => Promise<void>): void {
  let busy = false;
  el(id).addEventListener(name, (event) => {
    event.preventDefault();
    if (busy) return;
    busy = true;
    say("");
    void trying(what).finally(() => (busy = false));
  });
}
