// Describes what a program threw, with the lines of its author's source.
//
// It runs after the author's code, which may have replaced or removed anything: what it relies on is taken here,
// before, and nothing is looked up in a prototype.

const { apply } = Reflect;
const { Error, Number, String } = globalThis;
const { isInteger } = Number;
const { exec } = RegExp.prototype;
const { indexOf, repeat, slice, toWellFormed } = String.prototype;

// How many lines `new Function` puts before its source, which a stack calls `<input>`.
const LINES_BEFORE = linesBefore();
// Longer texts are cut: a message may quote megabytes.
const TEXT_CHARS_MAX = 20_000;
const CAUSES_MAX = 8;

// Where a source begins that is not the first of a one-shot program, in the engine's lines: what a program evaluates by
// itself has smaller numbers. Beyond the last, numbers are given again: the engine counts the empty lines before a source.
const LINE_FIRST = 1_000;
const LINE_LAST = 50_000;
// What is put after a source takes lines too.
const LINES_BETWEEN = 10;

// What the engine says where there are no packages at all, and what its author wants to know then.
const NO_PACKAGES = "require is not defined";
const HOW_TO_GIVE =
  ": no packages were given; give each as one file with --package NAME=FILE, or in the folder /packages";

const FRAME = /^\s*at (?:(.*) \()?<input>:(\d+)(?::(\d+))?\)?$/;

function linesBefore() {
  try {
    new Function("throw new Error()")();
  } catch (error) {
    return Number(/<input>:(\d+)/.exec(error.stack)[1]) - 1;
  }
}

// Sources that were evaluated: their names, where they begin, how many lines they have, once somebody wants to know. A
// source ends where the next one begins.
const places = { __proto__: null, count: 0 };
let nextLine = LINE_FIRST;

/// Notes the program of a call that is the only one, which `new Function` evaluates.
export function onlyPlace(source, filename) {
  places[0] = { start: LINES_BEFORE + 1, from: 0, source, lines: 0, filename, isProgram: true };
  places.count = 1;
}

/// Notes a package. Returns what goes before its source in `new Function`, so that its lines are told from all others.
export function beginPlace(source, filename) {
  const start = reserve(source, filename, false);
  return apply(repeat, "\n", [start - 1 - LINES_BEFORE]);
}

/// The same of the next program of a session, which is evaluated as a script.
export function beginProgram(source, filename) {
  for (let index = 0; index < places.count; index++) places[index].isProgram = false;
  return apply(repeat, "\n", [reserve(source, filename, true) - 1]);
}

function reserve(source, filename, isProgram) {
  if (nextLine > LINE_LAST) {
    nextLine = LINE_FIRST;
    places.count = 0;
  }
  const last = places[places.count - 1];
  if (last !== undefined) {
    const after = last.start + linesOf(last) + LINES_BETWEEN;
    if (nextLine < after) nextLine = after;
  }
  const start = nextLine;
  places[places.count++] = { start, from: start, source, lines: 0, filename, isProgram };
  return start;
}

function linesOf(place) {
  if (place.lines === 0) place.lines = countLines(place.source);
  return place.lines;
}

function placeOf(line) {
  for (let index = places.count - 1; index >= 0; index--) {
    if (places[index].from <= line) return places[index];
  }
  return undefined;
}

/// What `troupe:agent/interpreter.exception` wants to know of anything that was thrown.
export function describe(error) {
  try {
    return {
      kind: kindOf(error),
      message: messageOf(error),
      traceback: cut(trace(error, CAUSES_MAX)),
      line: lineOf(framesOf(error)),
    };
  } catch {
    const message = "the error cannot be shown: describing it fails";
    return { kind: "Error", message, traceback: `Error: ${message}\n`, line: null };
  }
}

// Where the program itself last was.
function lineOf(frames) {
  for (let index = 0; index < frames.count; index++) {
    const { place, line } = frames[index];
    if (place.isProgram) return isInteger(line) && line >= 1 ? line : null;
  }
  return null;
}

function trace(error, causesLeft) {
  let described = `${kindOf(error)}: ${messageOf(error)}\n`;
  const frames = framesOf(error);
  for (let index = 0; index < frames.count; index++) {
    const { name, line, column, place } = frames[index];
    const at = column === undefined ? `${place.filename}:${line}` : `${place.filename}:${line}:${column}`;
    described += name === undefined ? `    at ${at}\n` : `    at ${name} (${at})\n`;
  }
  const cause = quietly(() => (error instanceof Error ? error.cause : undefined));
  if (cause !== undefined && causesLeft > 0) {
    described += `Caused by: ${trace(cause, causesLeft - 1)}`;
  }
  return described;
}

// The author's functions that were running, innermost first. Ours, the engine's, and what `eval` made have no
// place in the author's source. It is no array: an array's prototype can be patched.
function framesOf(error) {
  const stack = text(() => (error instanceof Error ? error.stack : ""));
  const frames = { __proto__: null, count: 0 };
  for (let start = 0; start <= stack.length; ) {
    const end = lineEnd(stack, start);
    const found = apply(exec, FRAME, [apply(slice, stack, [start, end])]);
    start = end + 1;
    if (found === null) continue;
    const place = placeOf(Number(found[2]));
    if (place === undefined || (found[1] === "<eval>" && place.from === 0)) continue;
    let line = Number(found[2]) - place.start + 1;
    if (line < 1) line = 1;
    if (line > linesOf(place)) line = linesOf(place);
    const isNamed = found[1] !== "anonymous" && found[1] !== "<anonymous>" && found[1] !== "<eval>";
    frames[frames.count++] = { name: isNamed ? found[1] : undefined, line, column: found[3], place };
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
  const message = text(() => (error instanceof Error ? error.message : String(error)));
  return cut(message === NO_PACKAGES ? `${message}${HOW_TO_GIVE}` : message);
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
