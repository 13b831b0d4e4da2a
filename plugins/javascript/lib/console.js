// `console`, written to standard output and error at once, so that it is there when the program is stopped.

import stderrInterface from "wasi:cli/stderr@0.2.0";
import stdoutInterface from "wasi:cli/stdout@0.2.0";

// What WASI takes in one write.
const WRITE_BYTES_MAX = 4096;

const { stringify } = JSON;

function printer(open) {
  let stream;
  return (...values) => {
    stream ??= open();
    const bytes = utf8(`${format(values)}\n`);
    for (let start = 0; start < bytes.length; start += WRITE_BYTES_MAX) {
      stream.blockingWriteAndFlush(bytes.slice(start, start + WRITE_BYTES_MAX));
    }
  };
}

const out = printer(() => stdoutInterface.getStdout());
const err = printer(() => stderrInterface.getStderr());

export const console = { log: out, info: out, debug: out, warn: err, error: err, trace: err };

function format(values) {
  return values.map((value) => (typeof value === "string" ? value : show(value))).join(" ");
}

/// A value as `console` prints it.
export function show(value) {
  try {
    if (typeof value === "bigint") return `${value}n`;
    if (typeof value === "function") return `[function ${value.name || "without a name"}]`;
    if (typeof value !== "object" || value === null) return String(value);
    if (value instanceof Error) return String(value);
    if (value instanceof Map) return `Map ${stringify([...value])}`;
    if (value instanceof Set) return `Set ${stringify([...value])}`;
    return stringify(value) ?? String(value);
  } catch {
    return "[an object that cannot be shown]";
  }
}

// The engine has no TextEncoder. Half characters become U+FFFD, as there.
function utf8(text) {
  const bytes = new Uint8Array(text.length * 3);
  let end = 0;
  for (const character of text.toWellFormed()) {
    const code = character.codePointAt(0);
    if (code < 0x80) {
      bytes[end++] = code;
    } else if (code < 0x800) {
      bytes[end++] = 0xc0 | (code >> 6);
      bytes[end++] = 0x80 | (code & 0x3f);
    } else if (code < 0x10000) {
      bytes[end++] = 0xe0 | (code >> 12);
      bytes[end++] = 0x80 | ((code >> 6) & 0x3f);
      bytes[end++] = 0x80 | (code & 0x3f);
    } else {
      bytes[end++] = 0xf0 | (code >> 18);
      bytes[end++] = 0x80 | ((code >> 12) & 0x3f);
      bytes[end++] = 0x80 | ((code >> 6) & 0x3f);
      bytes[end++] = 0x80 | (code & 0x3f);
    }
  }
  return bytes.slice(0, end);
}
