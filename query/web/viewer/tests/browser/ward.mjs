// A real server with real devices, for the browser to look at: two minutes of twelve leads with half a minute missing
// between them, a bed that is live, and a day. Everything is loopback and ends by itself.

import { execFile, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const TARGET = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("../../../../../target", import.meta.url));
const BIN = process.env.CHORDAE_BIN ?? join(TARGET, "debug/chordae");
const SIM = process.env.DEVICE_SIM_BIN ?? join(TARGET, "debug/device-sim");
const SETTINGS = `
[mqtt]
tls = "off"
plain = "127.0.0.1:0"
[zmq]
tls = "off"
plain = "off"
[http]
tls = "off"
plain = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[wal]
max-bytes = 1073741824
min-free-bytes = 67108864
[chunks]
slot-seconds = 10
[ledger]
anchor-seconds = 1
`;
const run = promisify(execFile);

/** Twelve leads for a minute, nothing for half of one, twelve leads for a minute. Whole tiles of the viewer. */
export const MINUTE = 60_000;
export const HOLE = 30_000;

export class Ward {
  /** Without `day` there are only the two minutes of twelve leads: a day takes its time. */
  static async open({ day = true } = {}) {
    const ward = new Ward();
    ward.folder = mkdtempSync(join(tmpdir(), "chordae-viewer-"));
    ward.data = join(ward.folder, "data");
    try {
      await ward.fill(day);
    } catch (e) {
      await ward.close();
      throw e;
    }
    return ward;
  }

  async fill(day) {
    await run(BIN, ["init", "--data", this.data]);
    writeFileSync(join(this.data, "chordae.toml"), SETTINGS);
    await this.start();
    [this.ann, this.roe] = [await this.party("ann", "patient"), await this.party("roe", "requester")];
    this.trust = join(this.folder, "trust.json");
    await run(BIN, ["trust", "export", "--data", this.data, "--out", this.trust]);
    for (const [bed, slot] of [["bed-1", "10s"], ["bed-2", "10s"], ["bed-3", "3600s"]]) {
      await this.cli("device", "add", bed, "--out", join(this.folder, "certs"));
      await this.cli("stream", "assign", `${bed}/ecg`, "--patient", `${this.ann}.pub`);
      await this.cli("stream", "profile", `${bed}/ecg`, "--slot", slot);
    }
    // Longer ago than what may still be sealed: what is missing then is a gap.
    this.first = Math.floor(Date.now() / MINUTE - 180) * MINUTE;
    for (const start of [this.first, this.first + MINUTE + HOLE]) {
      await this.sim("bed-1", start, "--leads", "12", "--rate", "500", "--for", "60s");
    }
    this.dayFirst = this.first - 24 * 60 * MINUTE;
    if (day) await this.sim("bed-3", this.dayFirst, "--leads", "2", "--rate", "50", "--for", "24h", "--frame", "10s");
    // An orderly stop seals and anchors all of it.
    await this.stop();
    await this.start();
  }

  async start() {
    this.server = spawn(BIN, ["serve", "--config", join(this.data, "chordae.toml")], { stdio: ["ignore", "pipe", "inherit"] });
    this.doors = {};
    for await (const line of createInterface({ input: this.server.stdout })) {
      const [word, door, address] = line.split(/\s+/);
      if (word === "listening") this.doors[door] = address;
      if (word === "ready") break;
    }
    if (!this.doors["http-plain"]) throw new Error("the server did not start");
    // What it goes on to say is read, or it would have to wait.
    this.server.stdout.resume();
    this.url = `http://${this.doors["http-plain"]}`;
  }

  cli(...args) {
    return run(BIN, [...args, "--data", this.data]);
  }

  async party(name, role) {
    const key = join(this.folder, `${name}.pem`);
    await run(BIN, ["key", "new", "--role", role, "--name", name, "--out", key]);
    await this.cli("party", "add", `${key}.pub`, "--role", role);
    return key;
  }

  sim(bed, startMs, ...args) {
    const start = `${BigInt(startMs) * 1_000_000n}`;
    return run(SIM, ["--url", `mqtt://${this.doors["mqtt-plain"]}`, "--device", bed, "--start", start, "--max-rate", ...args]);
  }

  /** A device that streams as time goes by, until it is killed. */
  live(bed, ...args) {
    const device = spawn(SIM, ["--url", `mqtt://${this.doors["mqtt-plain"]}`, "--device", bed, ...args], { stdio: "ignore" });
    this.device = device;
    return device;
  }

  /** A stream has a did from its first birth on. */
  async did(bed) {
    for (let tries = 0; tries < 100; tries++) {
      const streams = JSON.parse((await this.cli("stream", "list", "--json")).stdout);
      const found = streams.find((one) => one.stream === `${bed}/ecg`)?.did;
      if (found) return found;
      await new Promise((go) => setTimeout(go, 200));
    }
    throw new Error(`${bed} sends nothing`);
  }

  async grant(did, ...args) {
    const { stdout } = await this.cli("session", "grant", "--key", this.ann, "--to", `${this.roe}.pub`, "--stream", did, ...args);
    return stdout.trim().split(/\s+/).at(-1);
  }

  /** Pulls a span of ms into a file of the ward's folder; its path. `sooner` and `longer` widen it by nanoseconds. */
  async pull(did, sid, { from, until, sooner = 0n, longer = 0n }, name, ...args) {
    const out = join(this.folder, name);
    const span = ["--from", `${BigInt(from) * 1_000_000n - sooner}`, "--until", `${BigInt(until) * 1_000_000n + longer}`];
    await this.cli("pull", "--key", this.roe, "--session", sid, "--stream", did, ...span, "--out", out, ...args);
    return out;
  }

  /** What a command says that needs no server. */
  async says(...args) {
    return (await run(BIN, args)).stdout;
  }

  revoke(sid) {
    return this.cli("session", "revoke", "--key", this.ann, "--session", sid);
  }

  async stop() {
    if (!this.server || this.server.exitCode !== null || this.server.signalCode !== null) return;
    const gone = new Promise((go) => this.server.once("exit", go));
    this.server.kill("SIGTERM");
    await gone;
  }

  async close() {
    this.device?.kill();
    await this.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
