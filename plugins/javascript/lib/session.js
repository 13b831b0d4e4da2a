// Runs the programs of a session, one after the other, as scripts: what they leave at the top level is there in the next.

import { beginClock } from "./clock.js";
import { console, show } from "./console.js";
import { makeContext } from "./context.js";
import { beginProgram, describe } from "./errors.js";
import { giveRequire } from "./packages.js";
import { seededRandom } from "./random.js";
import { END, script } from "./rewrite.js";
import { isName, settled } from "./run.js";
import { toJson } from "./values.js";

const { parse, stringify } = JSON;
const { Function, ReferenceError, eval: evaluate } = globalThis;
const { defineProperty, getOwnPropertyDescriptor } = Object;

const NOTHING = Symbol("nothing");
let isBegun = false;

export function executeNext(program) {
  const before = beginProgram(program.source, program.filename);
  try {
    if (!isBegun) {
      isBegun = true;
      Math.random = seededRandom(program.seed);
      beginClock();
      globalThis.console = console;
      giveRequire();
    }
    globalThis.input = parse(program.input);
    globalThis.context = makeContext();
    return resultOf(program, before);
  } catch (error) {
    throw describe(error);
  }
}

function resultOf({ source, action, input }, before) {
  const returned = { value: NOTHING };
  defineProperty(globalThis, `${END}$`, { value: returned, configurable: true });
  const resultSet = watchResult();
  let last;
  let result;
  try {
    const { text, hasValue } = evaluable(source);
    const value = evaluate(before + text);
    if (hasValue) last = value;
  } finally {
    delete globalThis[`${END}$`];
    result = resultSet();
  }
  if (returned.value !== NOTHING) return toJson(settled(returned.value));
  if (result !== undefined) return toJson(settled(result));
  if (action !== "") return toJson(settled(functionOf(action)(globalThis.input)));
  return textOf(last);
}

function evaluable(source) {
  const made = script(source);
  if (made.text === source) return made;
  try {
    new Function(made.text); // It is not called.
    return made;
  } catch {
    return { ...made, text: source }; // It is wrong by itself, or was read wrongly.
  }
}

// A result of an earlier program is a variable like any other: this one's own is what this one sets.
function watchResult() {
  const before = getOwnPropertyDescriptor(globalThis, "result");
  let value = before?.value;
  let isSet = false;
  const get = () => value;
  const set = (other) => {
    value = other;
    isSet = true;
  };
  if (before?.configurable === false) return () => undefined;
  defineProperty(globalThis, "result", { get, set, configurable: true, enumerable: true });
  return () => {
    const after = getOwnPropertyDescriptor(globalThis, "result");
    if (after?.get !== get) return after?.value;
    if (isSet || before !== undefined) {
      defineProperty(globalThis, "result", { value, writable: true, configurable: true, enumerable: true });
    } else {
      delete globalThis.result;
    }
    return isSet ? value : undefined;
  };
}

function functionOf(action) {
  const found = isName(action) ? globalThis[action] : undefined;
  if (typeof found === "function") return found;
  throw new ReferenceError(`there is no function "${action}" in this session: define it, or name another \`action\``);
}

// Nobody said of the last expression that it is a result: where it has no JSON form it is shown as `console` does.
function textOf(last) {
  try {
    return toJson(last);
  } catch {
    return stringify(show(last).toWellFormed());
  }
}
