// Describes what a program threw, with the lines of its author's source.
//
// It runs after the author's code, which may have replaced or removed anything: what it relies on is taken here,
// before, and nothing is looked up in a prototype.

const { apply } = Reflect;
const { Error, Number, String } = globalThis;
const { isInteger } = Number;
const { exec } = RegExp.prototype;
const { indexOf, slice, toWellFormed } = String.prototype;

// How many lines `new Function` puts before its source, which a stack calls `<input>`.
const LINES_BEFORE = linesBefore();
// Longer texts are cut: a message may quote megabytes.
const TEXT_CHARS_MAX = 20_000;
const CAUSES_MAX = 8;

const FRAME = /^\s*at (?:(.*) \()?<input>:(\d+)(?::(\d+))?\)?$/;

function linesBefore() {
  try {
    new Function("throw new Error()")();
  } catch (error) {
    return Number(/<input>:(\d+)/.exec(error.stack)[1]) - 1;
  }
}

/// What `troupe:agent/interpreter.exception` wants to know of anything that was thrown.
export function describe(error, { source, filename }) {
  try {
    const lines = countLines(source);
    const frames = framesOf(error, lines);
    const line = frames.count > 0 ? frames[0].line : null;
    return {
      kind: kindOf(error),
      message: messageOf(error),
      traceback: cut(trace(error, filename, lines, CAUSES_MAX)),
      line: line !== null && isInteger(line) && line >= 1 && line <= lines ? line : null,
    };
  } catch {
    const message = "the error cannot be shown: describing it fails";
    return { kind: "Error", message, traceback: `Error: ${message}\n`, line: null };
  }
}

function trace(error, filename, lines, causesLeft) {
  let described = `${kindOf(error)}: ${messageOf(error)}\n`;
  const frames = framesOf(error, lines);
  for (let index = 0; index < frames.count; index++) {
    const { name, line, column } = frames[index];
    const place = column === undefined ? `${filename}:${line}` : `${filename}:${line}:${column}`;
    described += name === undefined ? `    at ${place}\n` : `    at ${name} (${place})\n`;
  }
  const cause = quietly(() => (error instanceof Error ? error.cause : undefined));
  if (cause !== undefined && causesLeft > 0) {
    described += `Caused by: ${trace(cause, filename, lines, causesLeft - 1)}`;
  }
  return described;
}

// The author's functions that were running, innermost first. Ours, the engine's, and what `eval` made have no
// place in the author's source. It is no array: an array's prototype can be patched.
function framesOf(error, lines) {
  const stack = text(() => (error instanceof Error ? error.stack : ""));
  const frames = { __proto__: null, count: 0 };
  for (let start = 0; start <= stack.length; ) {
    const end = lineEnd(stack, start);
    const found = apply(exec, FRAME, [apply(slice, stack, [start, end])]);
    start = end + 1;
    if (found === null || found[1] === "<eval>") continue;
    let line = Number(found[2]) - LINES_BEFORE;
    if (line < 1) line = 1;
    if (line > lines) line = lines;
    const name = found[1] === "anonymous" || found[1] === "<anonymous>" ? undefined : found[1];
    frames[frames.count++] = { name, line, column: found[3] };
  }
  return frames;
}

function countLines(source) {
  let lines = 0;
  for (let start = 0; start <= source.length; start = lineEnd(source, start) + 1) lines++;
  return lines;
}

function lineEnd(text, start) {
  const end = apply(indexOf, text, ["\n", start]);
  return end < 0 ? text.length : end;
}

function kindOf(error) {
  return cut(text(() => (error instanceof Error ? error.name : "Error"))) || "Error";
}

function messageOf(error) {
  return cut(text(() => (error instanceof Error ? error.message : String(error))));
}

// An author's getter may throw, or give something that is no text.
function text(read) {
  const value = quietly(read);
  return value === undefined ? "" : apply(toWellFormed, quietly(() => `${value}`) ?? "", []);
}

function quietly(read) {
  try {
    return read();
  } catch {
    return undefined;
  }
}

function cut(long) {
  if (long.length <= TEXT_CHARS_MAX) return long;
  const half = TEXT_CHARS_MAX / 2;
  const left = long.length - TEXT_CHARS_MAX;
  const shown = `${apply(slice, long, [0, half])}\n[… ${left} characters left out]\n${apply(slice, long, [-half])}`;
  return apply(toWellFormed, shown, []);
}
