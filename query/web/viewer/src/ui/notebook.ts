/** The dialog in which a note is written; what it keeps. */

import { type Note, Notes } from "../core/notes.js";
import { clock } from "../core/time.js";
import { KEPT, el } from "./page.js";

export class Notebook {
  private readonly notes: Notes;
  private held: Note[];

  constructor(
    did: string,
    private readonly changed: (notes: readonly Note[]) => void,
    private readonly trouble: (why: string) => void,
  ) {
    this.notes = new Notes(localStorage, did);
    this.held = this.notes.all();
  }

  /** By time. */
  all(): readonly Note[] {
    return this.held;
  }

  ask(at: number): void {
    const dialog = el<HTMLDialogElement>("note-dialog");
    el("note-where").textContent = `at ${clock(at, 3)} UTC`;
    el<HTMLTextAreaElement>("note-text").value = "";
    el<HTMLInputElement>("note-author").value = localStorage.getItem(KEPT.author) ?? "";
    dialog.returnValue = "";
    dialog.onclose = () => {
      if (dialog.returnValue === "keep") this.add(at);
    };
    dialog.showModal();
  }

  remove(note: Note): void {
    this.notes.remove(note.id);
    this.told();
  }

  private add(at: number): void {
    const [text, author] = [el<HTMLTextAreaElement>("note-text").value.trim(), el<HTMLInputElement>("note-author").value.trim()];
    try {
      localStorage.setItem(KEPT.author, author);
      this.notes.add({ id: crypto.randomUUID(), at, lead: null, text, author, written: Date.now() });
    } catch (e) {
      // No more room: what was there stays.
      this.trouble(e instanceof Error ? e.message : String(e));
    }
    this.told();
  }

  private told(): void {
    this.held = this.notes.all();
    this.changed(this.held);
  }
}
