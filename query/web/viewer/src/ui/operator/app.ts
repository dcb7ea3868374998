/**
 * The operators' page: the node, its devices, their streams and commands, renewed while somebody looks.
 *
 *     trust file, key file ─▶ door ─▶ /v1/admin/* every 5 s ─▶ tables
 *                               ▲
 *            a command, its body signed too
 *
 * Each request of an operator is in the trail, those of this page too: it asks for nothing while it is hidden or held still.
 */

import { BadInput } from "chordae-chain";
import { SECOND, clock } from "../../core/time.js";
import {
  type Command, type Device, type Order, type Status, type StreamLine, commandsOf, devicesOf, namesOf, sendCommand, statusOf, streamLinesOf,
} from "../../net/admin.js"; // prettier-ignore
import { type Door, Refusal } from "../../net/door.js";
import { type Entered, Entry, inWords } from "../entry.js";
import { el, make } from "../page.js";
import { say } from "../said.js";
import { Table } from "../table.js";
import { commandColumns, deviceColumns, streamColumns } from "./columns.js";
import { OrderForm } from "./order.js";

const RENEW_EVERY = 5 * SECOND;
const NO_OPERATOR = "This key is no operator's, and is told nothing: the node makes one known with chordae party add FILE.pub --role operator.";
const READERS_ALONE = "This node serves readers alone now, and tells why on the machine itself: chordae status --data DIR.";

class Page {
  private door: Door | undefined;
  private names: ReadonlyMap<string, string> = new Map();
  private now = Date.now();
  private renewing = false;
  /** Whether the last renewal did, so that the next takes back its words, and nobody else's. */
  private failed = false;
  private readonly entry = new Entry((entered) => this.enter(entered));
  private readonly order = new OrderForm((order) => this.send(order));
  private readonly devices = new Table<Device>(
    el("devices"),
    "",
    deviceColumns(() => this.now),
    ({ id }) => id,
    [{ word: "Command …", may: ({ kind, enabled }) => kind === "device" && enabled, do: ({ id }) => this.order.begin(id) }],
    "No device is registered: chordae device add makes one.",
  );
  private readonly streams = new Table<StreamLine>(
    el("streams"),
    "",
    streamColumns(() => this.now, () => this.names),
    ({ did }) => did,
    [],
    "No stream yet: it begins with the first birth of a device.",
  );
  private readonly commands = new Table<Command>(el("commands"), "", commandColumns(() => this.names), ({ id }) => id, [], "None.").order(0, false);

  constructor() {
    el("leave").addEventListener("click", () => this.leave(""));
    el("pause").addEventListener("click", () => {
      const held = el("pause").getAttribute("aria-pressed") !== "true";
      el("pause").setAttribute("aria-pressed", String(held));
      if (!held) void this.renew();
    });
    setInterval(() => void this.due(), RENEW_EVERY);
    document.addEventListener("visibilitychange", () => void this.due());
  }

  private async enter({ door }: Entered): Promise<void> {
    try {
      this.names = await namesOf(door);
    } catch (e) {
      throw e instanceof Refusal && e.status === 403 ? new BadInput(NO_OPERATOR) : e instanceof Refusal && e.status === 404 ? new BadInput(READERS_ALONE) : e;
    }
    this.door = door;
    await this.renew();
    el("connect").hidden = true;
    el("open").hidden = false;
    el("pause").focus();
  }

  private async due(): Promise<void> {
    if (!document.hidden && el("pause").getAttribute("aria-pressed") !== "true") await this.renew();
  }

  private async renew(): Promise<void> {
    const { door } = this;
    if (!door || this.renewing) return;
    this.renewing = true;
    try {
      const [status, devices, streams, commands] = [await statusOf(door), await devicesOf(door), await streamLinesOf(door), await commandsOf(door)];
      // She may have left meanwhile.
      if (this.door === door) this.show(status, devices, streams, commands);
    } catch (e) {
      if (this.door !== door) return;
      if (e instanceof Refusal && e.ends) this.leave(`This page has ended: ${e.message}.`);
      else say(inWords(e), true);
      this.failed = true;
    } finally {
      this.renewing = false;
    }
  }

  private show(status: Status, devices: Device[], streams: StreamLine[], commands: Command[]): void {
    if (this.failed) say("");
    this.failed = false;
    this.now = Date.now();
    el("when").textContent = `As of ${clock(this.now)} UTC; ages are by this browser's clock.`;
    el("ready").textContent = status.ready ? "● ready" : "▲ not ready";
    el("ready").className = status.ready ? "state good" : "state bad";
    el("reasons").replaceChildren(...status.reasons.map((why) => make("li", why)));
    const numbers = [...status.numbers].filter(([name]) => name !== "ready");
    el("facts").replaceChildren(...numbers.map(([name, value]) => make("li", `${name.replaceAll("_", " ")}: ${value}`)));
    this.devices.show(devices);
    this.streams.show(streams);
    this.commands.show(commands);
    this.order.offer(devices);
  }

  private async send(order: Order): Promise<void> {
    if (!this.door) return;
    await sendCommand(this.door, order);
    await this.renew();
    say(`Sent: it is kept for ${order.device} until the device takes it; its state is below.`);
  }

  private leave(why: string): void {
    this.door = undefined;
    this.names = new Map();
    this.devices.show([]);
    this.streams.show([]);
    this.commands.show([]);
    this.order.offer([]);
    for (const id of ["ready", "when"]) el(id).textContent = "";
    for (const id of ["reasons", "facts"]) el(id).replaceChildren();
    el("open").hidden = true;
    say("");
    this.entry.show(why);
  }
}

new Page();
