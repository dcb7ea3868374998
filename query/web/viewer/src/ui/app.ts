/** The page: a form, then a stream, then the form again. */

import { Connect } from "./connect.js";
import { Viewer } from "./viewer.js";

const connect: Connect = new Connect((chosen) => new Viewer(chosen, (why) => connect.show(why)));
