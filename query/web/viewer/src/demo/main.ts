/** The page of `chordae demo`: the viewer, connected by one click, and ways to break a copy that it then judges. */

import { parseTrust } from "chordae-chain";
import { Door } from "../net/door.js";
import { grantsOf } from "../net/grants.js";
import { readKeys } from "../net/keys.js";
import { type Chosen, Connect } from "../ui/connect.js";
import { el, make } from "../ui/page.js";
import { Viewer } from "../ui/viewer.js";
import { Breaking } from "./breaking.js";
import { clinician } from "./server.js";

const breaking: Breaking = new Breaking((why) => connect.show(why));
const connect: Connect = new Connect((chosen) => look(chosen));

/** A live picture of the stream, and the buttons above it. */
function look(chosen: Chosen): void {
  el("connect").hidden = true;
  breaking.begin(chosen, (door, judged, left) => new Viewer({ ...chosen, door }, left, judged));
}

const button = make("button", "Connect as the demo's clinician", { type: "button", id: "demo-connect" });
const words = make("p", "This server is a demonstration. It gives this page the trust file and the key of Dr. Roe, to whom Ann has granted a day of her streams. A real server gives out no key.");
el("connect").prepend(words, button);
button.addEventListener("click", () => {
  void (async () => {
    const trouble = el("trouble");
    try {
      trouble.textContent = "";
      const { trust, key } = await clinician();
      const door = new Door(await readKeys(key), parseTrust(trust).origin, null);
      const [grant] = await grantsOf(door);
      if (!grant) throw new Error("Ann has granted nothing yet: try again in a few seconds.");
      look({ door: door.on(grant.sid), grant, trust });
    } catch (e) {
      trouble.textContent = e instanceof Error ? e.message : String(e);
    }
  })();
});
