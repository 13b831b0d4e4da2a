// Runs one program and finds its result, or its error as its author should see it.

import { beginClock } from "./clock.js";
import { console } from "./console.js";
import { makeContext } from "./context.js";
import { describe, onlyPlace } from "./errors.js";
import { giveRequire } from "./packages.js";
import { seededRandom } from "./random.js";
import { functionBody } from "./rewrite.js";
import { toJson } from "./values.js";

const { parse } = JSON;
const { Function, Promise } = globalThis;

// What the end of a source hands over, where the source does not return by itself.
class Bindings {
  constructor(result, action) {
    this.result = result;
    this.action = action;
  }
}

export function execute(program) {
  Math.random = seededRandom(program.seed);
  beginClock();
  onlyPlace(program.source, program.filename);
  try {
    globalThis.console = console;
    // Looking for packages takes time.
    const hasPackages = /require|import/.test(program.source) && giveRequire();
    globalThis.input = parse(program.input);
    globalThis.context = makeContext();
    return toJson(resultOf(hasPackages ? { ...program, source: functionBody(program.source) } : program));
  } catch (error) {
    throw describe(error);
  }
}

function resultOf({ source, action, input }) {
  const named = isName(action);
  const builtIn = named ? globalThis[action] : undefined;
  // The source is the body of a function, so that it may `return`. Its own bindings can only be seen from the
  // inside, so its last line hands them over; `arguments` needs no name that could collide with one of the
  // author's.
  const last = named
    ? `return arguments[0](typeof result === "undefined" ? undefined : result, typeof ${action} === "function" ? ${action} : undefined)`
    : `return arguments[0](typeof result === "undefined" ? undefined : result)`;
  const body = new Function(`${source}\n;${last}`);
  const returned = body((result, action) => new Bindings(result, action));
  if (!(returned instanceof Bindings)) return settled(returned);
  if (returned.result !== undefined) return settled(returned.result);
  if (returned.action === undefined || returned.action === builtIn) return null;
  return settled(returned.action(globalThis.input));
}

export function isName(action) {
  if (!/^[A-Za-z_$][A-Za-z0-9_$]*$/.test(action)) return false;
  try {
    new Function(`typeof ${action}`); // Reserved words are no names.
    return true;
  } catch {
    return false;
  }
}

export function settled(value) {
  if (value instanceof Promise) {
    throw new TypeError(
      "the result is a promise, and promises never settle here: this interpreter runs from the first line to " +
        "the last without waiting. Write the code without `async`, `await` and `.then`",
    );
  }
  return value;
}
