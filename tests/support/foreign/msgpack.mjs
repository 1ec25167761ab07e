// As much of msgpack as the device protocol needs: maps, lists, texts, numbers, true, false, null.

const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true });

/** Writes a value; numbers must be whole and lie in 0 to 2^32 - 1. */
export function encode(value) {
  const bytes = [];
  write(value, bytes);
  return Uint8Array.from(bytes);
}

function write(value, bytes) {
  if (value === null) bytes.push(0xc0);
  else if (typeof value === "boolean") bytes.push(value ? 0xc3 : 0xc2);
  else if (typeof value === "number") bytes.push(0xce, ...bigEndian(value, 4));
  else if (typeof value === "string") {
    const encoded = utf8.encode(value);
    bytes.push(0xda, ...bigEndian(encoded.length, 2), ...encoded);
  } else if (Array.isArray(value)) {
    bytes.push(0xdc, ...bigEndian(value.length, 2));
    for (const item of value) write(item, bytes);
  } else {
    const entries = Object.entries(value);
    bytes.push(0xde, ...bigEndian(entries.length, 2));
    for (const [key, item] of entries) {
      write(key, bytes);
      write(item, bytes);
    }
  }
}

function bigEndian(number, size) {
  return Array.from({ length: size }, (_, at) => (number >>> (8 * (size - 1 - at))) & 0xff);
}

/** Reads the one value that the bytes are. */
export function decode(bytes) {
  const reader = new Reader(bytes);
  const value = reader.value();
  if (reader.at !== bytes.length) throw new RangeError("bytes are left over");
  return value;
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  value() {
    const tag = this.number("Uint8", 1);
    if (tag < 0x80) return tag;
    if (tag >= 0xe0) return tag - 0x100;
    if (tag < 0x90) return this.map(tag & 0x0f);
    if (tag < 0xa0) return this.list(tag & 0x0f);
    if (tag < 0xc0) return this.text(tag & 0x1f);
    const read = TAGS[tag];
    if (read === undefined) throw new RangeError(`unknown tag ${tag}`);
    return read(this);
  }

  number(kind, size) {
    const found = this.view[`get${kind}`](this.at);
    this.at += size;
    return Number(found);
  }

  text(length) {
    this.at += length;
    if (this.at > this.bytes.length) throw new RangeError("the text is cut");
    return text.decode(this.bytes.subarray(this.at - length, this.at));
  }

  list(length) {
    return Array.from({ length }, () => this.value());
  }

  map(length) {
    return Object.fromEntries(Array.from({ length }, () => [this.value(), this.value()]));
  }
}

const TAGS = {
  0xc0: () => null,
  0xc2: () => false,
  0xc3: () => true,
  0xca: (reader) => reader.number("Float32", 4),
  0xcb: (reader) => reader.number("Float64", 8),
  0xcc: (reader) => reader.number("Uint8", 1),
  0xcd: (reader) => reader.number("Uint16", 2),
  0xce: (reader) => reader.number("Uint32", 4),
  0xcf: (reader) => reader.number("BigUint64", 8),
  0xd0: (reader) => reader.number("Int8", 1),
  0xd1: (reader) => reader.number("Int16", 2),
  0xd2: (reader) => reader.number("Int32", 4),
  0xd3: (reader) => reader.number("BigInt64", 8),
  0xd9: (reader) => reader.text(reader.number("Uint8", 1)),
  0xda: (reader) => reader.text(reader.number("Uint16", 2)),
  0xdb: (reader) => reader.text(reader.number("Uint32", 4)),
  0xdc: (reader) => reader.list(reader.number("Uint16", 2)),
  0xdd: (reader) => reader.list(reader.number("Uint32", 4)),
  0xde: (reader) => reader.map(reader.number("Uint16", 2)),
  0xdf: (reader) => reader.map(reader.number("Uint32", 4)),
};
