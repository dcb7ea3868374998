/** A reader's annotations: kept in the browser, per stream, never sent. What is read back is checked: a store rots. */

export interface Note {
  readonly id: string;
  /** Instant it is about. */
  readonly at: number;
  readonly lead: string | null;
  readonly text: string;
  readonly author: string;
  /** When it was written. */
  readonly written: number;
}

export const NOTES_MAX = 1000;
export const TEXT_MAX = 500;

/** What keeps texts: `localStorage`, or a map in a test. */
export interface Store {
  getItem(key: string): string | null;
  setItem(key: string, text: string): void;
}

/** The notes about one stream. */
export class Notes {
  private readonly key: string;

  constructor(private readonly store: Store, did: string) {
    this.key = `chordae notes ${did}`;
  }

  all(): Note[] {
    let said: unknown;
    try {
      said = JSON.parse(this.store.getItem(this.key) ?? "[]");
    } catch {
      said = [];
    }
    return (Array.isArray(said) ? said : []).filter(isNote).slice(0, NOTES_MAX);
  }

  /** Throws where there is no more room; nothing is dropped to make some. */
  add(note: Note): void {
    const all = [...this.all(), { ...note, text: note.text.slice(0, TEXT_MAX) }];
    if (all.length > NOTES_MAX) throw new Error(`there are ${NOTES_MAX} notes about this stream: remove some first`);
    all.sort((a, b) => a.at - b.at);
    this.store.setItem(this.key, JSON.stringify(all));
  }

  remove(id: string): void {
    this.store.setItem(this.key, JSON.stringify(this.all().filter((note) => note.id !== id)));
  }
}

function isNote(value: unknown): value is Note {
  const { id, at, lead, text, author, written } = (value ?? {}) as Record<string, unknown>;
  const texts = [id, text, author].every((one) => typeof one === "string") && (lead === null || typeof lead === "string");
  return texts && Number.isFinite(at) && Number.isFinite(written);
}
