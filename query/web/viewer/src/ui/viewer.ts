/**
 * One stream on the screen: what the reader does changes the state, the next frame draws it.
 *
 *     pointer, keys, buttons ─▶ state ─▶ dirty ─▶ (next frame) what is seen ─▶ painter, panel
 *                                 ▲                    └▶ wanted tiles ─▶ loader
 *                  tiles, live rows, clock
 *
 * It ends when the reader leaves or the grant does; then nothing of the stream stays in memory or on the screen.
 */

import { type Badge, badge } from "../core/badge.js";
import { type Layout, stripAt } from "../core/layout.js";
import { type Note } from "../core/notes.js";
import {
  CARD_MM, CSS_DENSITY, GAINS, SPEEDS, type Sheet, type View, heightOf, msAt, msPerCssPx, panned, spanOf, speedFor, stepped, zoomed,
} from "../core/paper.js"; // prettier-ignore
import { type Place, covering, levelFor, placeSpan, wanted } from "../core/tiles.js";
import { DAY, HOUR, SECOND, clock, length } from "../core/time.js";
import { Refusal } from "../net/door.js";
import { Loader } from "../net/loader.js";
import { Memory } from "../net/memory.js";
import { newestRow } from "../net/newest.js";
import { type Wrong } from "../net/part.js";
import { LISTING_MAX } from "../net/wire.js";
import { WorkerJudge } from "../net/worker_judge.js";
import { type Command, HELP, commandOf } from "./commands.js";
import { type Chosen } from "./connect.js";
import { Painter } from "./draw.js";
import { Leads } from "./leads.js";
import { LiveMode } from "./live_mode.js";
import { Measuring } from "./measuring.js";
import { Notebook } from "./notebook.js";
import { KEPT, el, make, options, press } from "./page.js";
import { Panel } from "./panel.js";
import { listen } from "./pointer.js";
import { PRINT_DENSITY, PRINT_MM, print, printed } from "./print.js";
import { type Scene, frameOf, sheetOf } from "./scene.js";
import { seen } from "./seen.js";

/** How often the grant is looked at while somebody looks at the picture. */
const LOOK_EVERY = 5 * SECOND;
/** What is told to a screen reader waits until the picture rests. */
const TELL_AFTER = 700;
/** A key moves the paper by this part of the screen. */
const STEP = 1 / 5;

export class Viewer {
  private readonly canvas = el<HTMLCanvasElement>("paper");
  private readonly painter = new Painter();
  private readonly leads = new Leads(() => this.touch());
  private readonly measuring = new Measuring();
  private readonly over = new AbortController();
  private readonly judge: WorkerJudge;
  private readonly loader: Loader;
  private readonly live: LiveMode;
  private readonly notebook: Notebook;
  private readonly panel: Panel;
  private view: View = { from: 0, speed: SPEEDS[1] };
  private gain: number = GAINS[1];
  private density = Number(localStorage.getItem(KEPT.density)) || CSS_DENSITY;
  /** Of the calipers, in pixels. */
  private base = 0;
  private dirty = true;
  private telling: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly chosen: Chosen,
    /** The view is over; why, for people. */
    private readonly left: (why: string) => void,
    /** What each picture's badge is, and what was found wrong with it. */
    private readonly judged: (badge: Badge, findings: readonly Wrong[]) => void = () => undefined,
  ) {
    const { door, grant, trust } = chosen;
    const ended = (why: string) => this.leave(`This view has ended: ${why}.`);
    this.judge = new WorkerJudge(new Worker("judge.js", { type: "module" }), trust);
    this.loader = new Loader(door, grant, this.judge, (refusal) => (refusal ? ended(refusal.message) : this.touch()));
    this.live = new LiveMode(door, grant, () => this.touch(), ended);
    const noted = (notes: readonly Note[]) => {
      this.panel.notes(notes);
      this.touch();
    };
    this.notebook = new Notebook(grant.did, noted, (why) => this.tell(why));
    this.panel = new Panel((note) => this.centre(note.at), (note) => this.notebook.remove(note), this.over.signal);
    el("view").hidden = false;
    this.tools();
    this.listen();
    this.panel.notes(this.notebook.all());
    this.toEnd();
    this.canvas.focus();
    void this.toNewest();
    void this.watch();
    this.frame();
  }

  private get sheet(): Sheet {
    return sheetOf(this.canvas.clientWidth, this.density);
  }

  /** Something changed: the next frame draws. */
  private touch(): void {
    this.dirty = true;
  }

  // ---- the picture

  private readonly frame = (): void => {
    if (this.over.signal.aborted) return;
    requestAnimationFrame(this.frame);
    const then = this.live.after(this.view, this.sheet);
    if (then === this.view && !this.dirty) return;
    this.view = then;
    this.dirty = false;
    this.draw();
  };

  private draw(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const dpr = devicePixelRatio || 1;
    const [w, h] = [Math.round(width * dpr), Math.round(height * dpr)];
    if (this.canvas.width !== w || this.canvas.height !== h) [this.canvas.width, this.canvas.height] = [w, h];
    const scene = this.scene(width, height, this.density);
    const shown = spanOf(this.view, scene.sheet);
    this.loader.want(wanted(shown, msPerCssPx(this.view), this.loader.bounds()));
    this.painter.paint(this.canvas.getContext("2d", { alpha: false }) as CanvasRenderingContext2D, scene, dpr);
    const tiles = this.places(scene.sheet).flatMap((place) => this.loader.tile(place) ?? []);
    const now = this.panel.tell(scene, tiles, this.chosen.door.origin);
    this.judged(now, tiles.flatMap((tile) => tile.proof.findings));
    // Empty between the speeds of paper; the line below the picture says it then.
    el<HTMLSelectElement>("speed").value = String(this.view.speed);
    press("live", this.live.on);
    press("calipers", this.measuring.on);
    // What the picture shows, as numbers: for tests, and for whoever automates a browser.
    const rows = scene.pieces.reduce((n, piece) => n + piece.times.length, 0);
    Object.assign(this.canvas.dataset, { ...shown, speed: this.view.speed, badge: now.colour, rows });
    clearTimeout(this.telling);
    this.telling = setTimeout(() => this.tell(this.words(scene, now)), TELL_AFTER);
  }

  private places(sheet: Sheet): Place[] {
    return covering(levelFor(msPerCssPx(this.view)), spanOf(this.view, sheet));
  }

  private scene(width: number, height: number, density: number): Scene {
    const sheet = sheetOf(width, density);
    const places = this.places(sheet).map((place) => {
      const tile = this.loader.tile(place);
      return { span: placeSpan(place), tile, standIns: tile ? [] : this.loader.standIns(place) };
    });
    const live = this.live.tail.frames();
    this.leads.learn([...places.flatMap(({ tile }) => tile ?? []), ...live.slice(-1)]);
    return {
      ...seen(this.view, sheet, places, live, this.loader.bounds(), Date.now()),
      view: this.view,
      sheet,
      gain: this.gain,
      strips: this.leads.strips(),
      notes: this.notebook.all(),
      calipers: this.measuring.calipers,
      width,
      height,
    };
  }

  private words(scene: Scene, { sign, word }: Badge): string {
    const { from, until } = spanOf(scene.view, scene.sheet);
    const gaps = scene.blanks.filter((blank) => blank.kind === "gap").length;
    const live = this.live.on ? `live${this.live.trouble && `: ${this.live.trouble}`}` : this.live.trouble;
    const all = [
      `${clock(from, 3)} UTC and ${length(until - from)} on`,
      `${Number(this.view.speed.toPrecision(3))} mm/s, ${this.gain} mm/mV, filter none`,
      `${scene.strips.length} strips, ${gaps} gaps`,
      `${sign} ${word}`,
      live,
      this.measuring.words(),
    ];
    return all.filter(Boolean).join("; ");
  }

  private tell(words: string): void {
    el("told").textContent = words;
  }

  // ---- what the reader does

  private do(command: Command, shift = false): void {
    const { sheet, view, measuring } = this;
    const { from, until } = spanOf(view, sheet);
    const move = (screens: number) => this.show({ ...view, from: view.from + screens * (until - from) });
    const nudge = (dx: number, dy: number) => measuring.nudge(dx, dy, shift, { view, sheet, gain: this.gain });
    const actions: Record<Command, () => void> = {
      start: () => this.toStart(),
      end: () => this.toEnd(),
      back: () => (measuring.on ? nudge(-1, 0) : move(-STEP)),
      on: () => (measuring.on ? nudge(1, 0) : move(STEP)),
      higher: () => nudge(0, 1),
      lower: () => nudge(0, -1),
      pageback: () => move(-1),
      pageon: () => move(1),
      in: () => this.zoom(stepped(view.speed, 1)),
      out: () => this.zoom(stepped(view.speed, -1)),
      day: () => this.zoom(speedFor(DAY, sheet)),
      hour: () => this.zoom(speedFor(HOUR, sheet)),
      slow: () => this.zoom(SPEEDS[0]),
      usual: () => this.zoom(SPEEDS[1]),
      fast: () => this.zoom(SPEEDS[2]),
      gain: () => this.setGain(GAINS[(GAINS.findIndex((one) => one === this.gain) + 1) % GAINS.length] as number),
      layout: () => this.leads.nextLayout(),
      calipers: () => measuring.toggle(view, sheet),
      escape: () => measuring.toggle(view, sheet, false),
      note: () => this.notebook.ask(measuring.calipers?.from ?? (from + until) / 2),
      print: () => globalThis.print(),
      live: () => (this.live.on ? this.live.stop() : this.goLive()),
      uncalibrate: () => this.setDensity(CSS_DENSITY),
      leave: () => this.leave(""),
    };
    actions[command]();
    this.canvas.classList.toggle("measuring", measuring.on);
    this.touch();
  }

  /** Another part of the paper; who moves away leaves the live picture. */
  private show(view: View): void {
    this.live.stop();
    this.view = view;
    this.touch();
  }

  /** Nearer or further, about a pixel of the sheet: its middle, where none is said. */
  private zoom(speed: number, x = this.sheet.width / 2): void {
    this.view = zoomed(this.view, this.sheet, speed, x);
    this.touch();
  }

  /** Shows an instant in the middle. */
  centre(at: number): void {
    const { from, until } = spanOf(this.view, this.sheet);
    this.show({ ...this.view, from: at - (until - from) / 2 });
  }

  private goTo(text: string): void {
    const at = Date.parse(text.trim().replace(" ", "T").replace(/Z?$/, "Z"));
    if (Number.isFinite(at)) this.centre(at);
    else this.tell("Not a time. Write it as 2026-11-29 12:00:00, in UTC.");
  }

  private toStart(): void {
    const { from } = this.loader.bounds();
    if (Number.isFinite(from)) this.show({ ...this.view, from });
  }

  /** The end of a grant that is over, or the present. */
  private toEnd(): void {
    const { from, until } = spanOf(this.view, this.sheet);
    this.show({ ...this.view, from: this.loader.bounds().until - (until - from) });
  }

  /** A device that is silent shows nothing at the present: the picture begins at the newest rows, if there are any. */
  private async toNewest(): Promise<void> {
    const begun = this.view;
    const newest = await newestRow(this.chosen.door, this.chosen.grant, Date.now()).catch(() => null);
    const { from, until } = spanOf(this.view, this.sheet);
    if (newest !== null && this.view === begun && newest < until) this.show({ ...begun, from: newest - (until - from) });
  }

  /** Follows the stream. */
  goLive(): void {
    this.toEnd();
    if (this.view.speed < SPEEDS[0]) this.view = { ...this.view, speed: SPEEDS[1] };
    this.live.start();
  }

  private setGain(gain: number): void {
    this.gain = gain;
    el<HTMLSelectElement>("gain").value = String(gain);
    this.touch();
  }

  private setDensity(density: number): void {
    this.density = density;
    localStorage.setItem(KEPT.density, String(density));
    el<HTMLInputElement>("card").value = String(density);
    el("card-bar").style.width = `${density * CARD_MM}px`;
    this.touch();
  }

  /** Voltages are read from the base line of the strip in which a drag began, wherever it goes. */
  private measure(x: number, y: number, begins: boolean): void {
    const { left, top, right, bottom } = this.edges();
    if (begins) {
      const strip = stripAt(this.leads.strips(), (x - left) / (right - left), (y - top) / (bottom - top));
      this.base = top + (strip?.base ?? 0.5) * (bottom - top);
    }
    const mv = (this.base - y) / heightOf(1, this.gain, this.sheet);
    this.measuring.drag({ ms: msAt(x - left, this.view, this.sheet), mv }, begins);
    this.touch();
  }

  private edges() {
    return frameOf({ sheet: this.sheet, width: this.canvas.clientWidth, height: this.canvas.clientHeight });
  }

  // ---- the grant

  /** Asks whether ledger and grant still stand, while anybody looks; tiles that are due are asked for on the way. */
  private async watch(): Promise<void> {
    const memory = new Memory(this.chosen.trust);
    for (; !this.over.signal.aborted; await new Promise((go) => setTimeout(go, LOOK_EVERY))) {
      if (document.hidden) continue;
      this.touch();
      try {
        this.doubt(await memory.look(this.chosen.door, this.over.signal));
        await this.chosen.door.get("/v1/streams", LISTING_MAX, this.over.signal);
      } catch (e) {
        if (e instanceof Refusal && e.ends) this.leave(`This view has ended: ${e.message}.`);
      }
    }
  }

  /** A ledger that is not the one that was seen before: nothing that leads to it is shown. */
  private doubt(why: Wrong | null): void {
    if (this.over.signal.aborted) return;
    if (why) this.live.stop();
    this.loader.distrust(why);
  }

  /** Ends the view. */
  leave(why: string): void {
    if (this.over.signal.aborted) return;
    this.over.abort();
    this.live.stop();
    this.loader.stop();
    this.judge.close();
    clearTimeout(this.telling);
    [this.canvas.width, this.canvas.height] = [1, 1];
    for (const key of Object.keys(this.canvas.dataset)) delete this.canvas.dataset[key];
    printed();
    this.panel.clear();
    this.tell("");
    el<HTMLDialogElement>("note-dialog").close();
    el("view").hidden = true;
    this.left(why);
  }

  // ---- the page around

  private tools(): void {
    options("speed", SPEEDS.map(String), String(SPEEDS[1]), " mm/s");
    options("gain", GAINS.map(String), String(this.gain), " mm/mV");
    el("keys").replaceChildren(...HELP.flatMap(([keys, what]) => [make("dt", keys), make("dd", what)]));
    this.setDensity(this.density);
  }

  private listen(): void {
    const { signal } = this.over;
    const on = (target: EventTarget, name: string, act: (event: Event) => void) => target.addEventListener(name, act, { signal });
    const value = (id: string) => el<HTMLInputElement | HTMLSelectElement>(id).value;
    on(el("tools"), "click", (event) => {
      const command = (event.target as HTMLElement).closest<HTMLElement>("[data-do]")?.dataset["do"];
      if (command) this.do(command as Command);
    });
    on(el("speed"), "change", () => this.zoom(Number(value("speed"))));
    on(el("gain"), "change", () => this.setGain(Number(value("gain"))));
    on(el("layout"), "change", () => this.leads.setLayout(value("layout") as Layout));
    on(el("card"), "input", () => this.setDensity(Number(value("card"))));
    // The same time again is no change, but who panned away means it.
    on(el("goto"), "keydown", (event) => (event as KeyboardEvent).key === "Enter" && this.goTo(value("goto")));
    on(el("goto"), "change", () => this.goTo(value("goto")));
    on(this.canvas, "keydown", (event) => {
      const command = commandOf(event as KeyboardEvent);
      if (!command) return;
      event.preventDefault();
      this.do(command, (event as KeyboardEvent).shiftKey);
    });
    const resized = new ResizeObserver(() => this.touch());
    resized.observe(this.canvas);
    on(signal, "abort", () => resized.disconnect());
    const hand = {
      pan: (px: number) => this.show(panned(this.view, this.sheet, px)),
      zoom: (by: number, x: number) => this.zoom(this.view.speed * by, x - this.edges().left),
      measures: () => this.measuring.on,
      measure: (x: number, y: number, begins: boolean) => this.measure(x, y, begins),
    };
    listen(this.canvas, hand, signal);
    on(globalThis, "beforeprint", () => {
      const scene = this.scene(PRINT_MM.width * PRINT_DENSITY, PRINT_MM.height * PRINT_DENSITY, PRINT_DENSITY);
      print(this.painter, scene, { did: this.chosen.grant.did, badge: badge(scene.standings), now: Date.now() });
    });
    on(globalThis, "afterprint", printed);
  }
}
