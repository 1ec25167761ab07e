// A device in Node. Takes the order as JSON in its only argument, writes events to stdout.

import { createRequire } from "node:module";
import { listen } from "./device.mjs";

// Node 22 has the class, Node 20 with --experimental-websocket; Debian packs the library that it is
// from beside its Node 18.
const WebSocketClass =
  globalThis.WebSocket ?? createRequire("/usr/share/nodejs/")("undici").WebSocket;

listen(WebSocketClass, JSON.parse(process.argv[2]), (event) =>
  process.stdout.write(`${JSON.stringify(event)}\n`),
);
