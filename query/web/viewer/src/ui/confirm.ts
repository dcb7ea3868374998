/** Asks before something is done that others will rely on. */

import { type Fact } from "./facts.js";
import { el, make, terms } from "./page.js";

/** Whether the reader said yes. `facts` is what exactly will be done. */
export function confirmed(title: string, facts: Iterable<Fact>, yes: string, note = ""): Promise<boolean> {
  const dialog = el<HTMLDialogElement>("confirm");
  el("confirm-title").textContent = title;
  el("confirm-facts").replaceChildren(terms(facts), make("p", note));
  el("confirm-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((answer) => dialog.addEventListener("close", () => answer(dialog.returnValue === "yes"), { once: true }));
}
