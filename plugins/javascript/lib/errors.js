// Describes what a program threw, with the lines of its author's source.

// How many lines `new Function` puts before its source, which a stack calls `<input>`.
const LINES_BEFORE = linesBefore();
// Longer texts are cut: a message may quote megabytes.
const TEXT_CHARS_MAX = 20_000;
const CAUSES_MAX = 8;

function linesBefore() {
  try {
    new Function("throw new Error()")();
  } catch (error) {
    return Number(/<input>:(\d+)/.exec(error.stack)[1]) - 1;
  }
}

/// What `troupe:agent/interpreter.exception` wants to know of anything that was thrown.
export function describe(error, { source, filename }) {
  const lines = source.split("\n").length;
  const frames = framesOf(error, lines);
  return {
    kind: kindOf(error),
    message: messageOf(error),
    traceback: cut(trace(error, filename, lines, CAUSES_MAX)),
    line: frames.length > 0 ? frames[0].line : null,
  };
}

function trace(error, filename, lines, causesLeft) {
  let described = `${kindOf(error)}: ${messageOf(error)}\n`;
  for (const { name, line, column } of framesOf(error, lines)) {
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
// place in the author's source.
function framesOf(error, lines) {
  const stack = text(() => (error instanceof Error ? error.stack : ""));
  const frames = [];
  for (const entry of stack.split("\n")) {
    const found = /^\s*at (?:(.*) \()?<input>:(\d+)(?::(\d+))?\)?$/.exec(entry);
    if (found === null || found[1] === "<eval>") continue;
    const line = Math.min(Math.max(Number(found[2]) - LINES_BEFORE, 1), lines);
    const name = found[1] === "anonymous" || found[1] === "<anonymous>" ? undefined : found[1];
    frames.push({ name, line, column: found[3] });
  }
  return frames;
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
  return value === undefined ? "" : (quietly(() => `${value}`) ?? "").toWellFormed();
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
  return `${long.slice(0, half)}\n[… ${left} characters left out]\n${long.slice(-half)}`.toWellFormed();
}
