// A device for any WebSocket class of the browsers' kind: connects, acks every message, says what
// it sees.

import { decode, encode } from "./msgpack.mjs";

const dialects = {
  "pushwire.v1.json": { write: JSON.stringify, read: JSON.parse },
  "pushwire.v1.msgpack": { write: encode, read: (data) => decode(new Uint8Array(data)) },
};

/** Connects, and calls `report` with each event. */
export function listen(WebSocketClass, { url, subprotocol, credential }, report) {
  const { write, read } = dialects[subprotocol];
  const socket = new WebSocketClass(url, subprotocol);
  socket.binaryType = "arraybuffer";
  const say = (frame) => socket.send(write(frame));
  socket.onopen = () => {
    report({ kind: "open", subprotocol: socket.protocol });
    say({ op: "connect", credential, sdk: "foreign" });
  };
  socket.onmessage = ({ data }) => {
    const frame = read(data);
    report({ kind: "frame", binary: typeof data !== "string", frame });
    if (frame.op === "welcome") say({ op: "ping" });
    if (frame.op === "message") say({ op: "ack", ids: [frame.id] });
  };
  socket.onclose = ({ code, reason }) => report({ kind: "close", code, reason });
}
