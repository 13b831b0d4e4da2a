// Makes of a program, or of a module, what this engine can evaluate: it knows functions and scripts, and its scripts keep
// only `var`, functions and what has no declaration. No line moves.

import { declared, edited, endOfStatement, isStatement, scan } from "./scan.js";

const { apply } = Reflect;
const { match, repeat, slice } = String.prototype;

/// Where `return` at the top level of a script leaves its value, and the name of the block that it ends.
export const END = "troupe$end";

// What has none of these words has nothing to be rewritten.
const IN_BODY = /^[^\S\n]*import\b/m;
const IN_MODULE = /(?:^|[;}\s])(?:export|import)\b(?!\s*\()/;

/// The body of a function, whose `import`s become calls of `require`.
export function functionBody(source) {
  if (!IN_BODY.test(source)) return source;
  const tokens = scan(source);
  const edits = [];
  for (let index = 0; index < tokens.length; index++) {
    if (isImport(tokens, index)) index = rewriteImport(source, tokens, index, edits);
  }
  return edited(source, edits);
}

// Words by which statements begin that have no value.
const STATEMENTS = new Set(
  ("break case catch class const continue debugger default do else export finally for function if import let return switch " +
    "throw try var while with").split(" "),
);

/// A script whose top-level `let`, `const` and `class` are variables that stay, and which may `return`; and whether its last
/// statement is an expression, whose value is the script's.
export function script(source) {
  const tokens = scan(source);
  const edits = [];
  const functions = [];
  let returns = 0;
  for (let index = 0; index < tokens.length; index++) {
    const token = tokens[index];
    if (token.kind !== "name" || token.head === ".") continue;
    if (token.text === "return" && token.around === "block") {
      returns++;
      rewriteReturn(tokens, index, edits);
      continue;
    }
    if (token.depth > 0) continue;
    if (isImport(tokens, index)) {
      index = rewriteImport(source, tokens, index, edits);
    } else if (token.text === "let" || token.text === "const") {
      if (token.text === "const" || isLet(tokens, index)) rewriteDeclaration(tokens, index, edits);
    } else if (token.text === "class" && isStatement(tokens, index)) {
      rewriteClass(tokens, index, edits);
    } else if (token.text === "function" && isStatement(tokens, index)) {
      const name = tokens[index + 1];
      if (name?.kind === "name") functions[functions.length] = name.text;
    }
  }
  const hasValue = endsInExpression(tokens);
  const text = edited(source, inOrder(edits));
  if (returns === 0) return { text, hasValue };
  // Functions of a block are its own until they are handed out.
  const kept = functions.map((name) => `globalThis.${name}=${name};`).join("");
  return { text: `${END}:{${kept}${text}\n}`, hasValue };
}

function endsInExpression(tokens) {
  for (let index = tokens.length - 1; index >= 0; index--) {
    const { depth, kind, text } = tokens[index];
    if (depth > 0 || text === ";" || text === "}" || !isStatement(tokens, index)) continue;
    const isFunction = text === "async" && tokens[index + 1]?.text === "function";
    return !isFunction && !(kind === "name" && STATEMENTS.has(text));
  }
  return false;
}

const inOrder = (edits) => edits.sort((one, other) => one[0] - other[0] || one[1] - other[1]);

function isLet(tokens, index) {
  const next = tokens[index + 1];
  return isStatement(tokens, index) && next !== undefined && (next.kind === "name" || next.text === "[" || next.text === "{") && next.text !== "in" && next.text !== "instanceof";
}

function rewriteDeclaration(tokens, index, edits) {
  const { text, start, end } = tokens[index];
  edits[edits.length] = [start, end, text === "let" ? "var" : "var  "];
  // A variable of this name may be there already, and would keep its value.
  for (const { token, hasValue } of declared(tokens, index, endOfStatement(tokens, index)).names) {
    if (!hasValue) edits[edits.length] = [token.end, token.end, "=void 0"];
  }
}

function rewriteClass(tokens, index, edits) {
  const name = tokens[index + 1];
  if (name?.kind !== "name") return;
  const { depth, start } = tokens[index];
  for (let next = index + 2; next < tokens.length; next++) {
    const token = tokens[next];
    if (token.depth === depth && token.frame?.kind === "class") {
      edits[edits.length] = [start, start, `var ${name.text}=`];
      edits[edits.length] = [token.end, token.end, ";"];
      return;
    }
  }
}

function rewriteReturn(tokens, index, edits) {
  const { start, end } = tokens[index];
  const last = endOfStatement(tokens, index);
  const isEmpty = last === index + 1 || tokens[index + 1]?.isAfterLine;
  if (isEmpty) {
    edits[edits.length] = [start, end, `{${END}$.value=void 0;break ${END}}`];
    return;
  }
  edits[edits.length] = [start, end, `{${END}$.value=(`];
  const semicolon = tokens[last]?.text === ";" && tokens[last].kind === "sign" && tokens[last].depth === tokens[index].depth;
  const stop = tokens[last - 1].end;
  edits[edits.length] = [stop, semicolon ? tokens[last].end : stop, `);break ${END}}`];
}

/// The body of a function that does what a module does with one file: `exports`, `module` and `require` are its arguments.
/// A source without `import` and `export` is such a body as it is.
export function moduleBody(source) {
  if (!IN_MODULE.test(source)) return source;
  const tokens = scan(source);
  const edits = [];
  const exported = [];
  for (let index = 0; index < tokens.length; index++) {
    const token = tokens[index];
    if (token.depth > 0 || token.kind !== "name" || token.head === ".") continue;
    if (isImport(tokens, index)) {
      index = rewriteImport(source, tokens, index, edits);
    } else if (token.text === "export" && isStatement(tokens, index)) {
      index = rewriteExport(source, tokens, index, edits, exported);
    }
  }
  if (edits.length === 0) return source;
  const getters = exported.map(([name, value]) => `${JSON.stringify(name)}:{enumerable:true,get(){return ${value}}}`);
  const own = [`__esModule:{value:true}`, ...getters].join(",");
  return `"use strict";Object.defineProperties(exports,{${own}});${edited(source, inOrder(edits))}`;
}

function rewriteExport(source, tokens, index, edits, exported) {
  const { start } = tokens[index];
  const next = tokens[index + 1];
  const replace = (end, text = "") => {
    edits[edits.length] = [start, end, text + lines(source, start, end)];
  };
  if (next?.text === "default") {
    const value = tokens[index + 2];
    const isAsync = value?.text === "async" && tokens[index + 3]?.text === "function";
    const word = isAsync ? tokens[index + 3] : value;
    if (word?.text === "function" || word?.text === "class") {
      const after = tokens.indexOf(word) + 1;
      const name = tokens[after]?.text === "*" ? tokens[after + 1] : tokens[after];
      if (name?.kind === "name" && name.text !== "extends") {
        exported[exported.length] = ["default", name.text];
        replace(value.start);
        return index + 1;
      }
    }
    replace(value?.start ?? next.end, "exports.default=");
    return index + 1;
  }
  if (next?.text === "{") {
    const close = closing(tokens, index + 1);
    const { from, last } = fromClause(tokens, close);
    for (const [name, alias] of names(tokens, index + 1, close)) {
      exported[exported.length] = [alias, from === undefined ? name : `require(${from}).${name}`];
    }
    replace(last.end);
    return tokens.indexOf(last);
  }
  if (next?.text === "*") {
    const alias = tokens[index + 2]?.text === "as" ? tokens[index + 3] : undefined;
    const { from, last } = fromClause(tokens, index + (alias ? 3 : 1));
    if (alias) {
      exported[exported.length] = [plain(alias), `require(${from})`];
      replace(last.end);
    } else {
      replace(last.end, `Object.assign(exports,require(${from}))`);
    }
    return tokens.indexOf(last);
  }
  if (next?.text === "const" || next?.text === "let" || next?.text === "var") {
    const { names: variables, isPlain } = declared(tokens, index + 1, endOfStatement(tokens, index + 1));
    if (!isPlain) throw new SyntaxError("`export const { … }` is not understood here: export the names at the end of the file");
    for (const { token } of variables) exported[exported.length] = [token.text, token.text];
  } else {
    // function, async function, class
    let at = index + 1;
    while (tokens[at] && ["async", "function", "class", "*"].includes(tokens[at].text)) at++;
    if (tokens[at]?.kind === "name") exported[exported.length] = [tokens[at].text, tokens[at].text];
  }
  replace(next?.start ?? tokens[index].end);
  return index + 1;
}

function isImport(tokens, index) {
  const next = tokens[index + 1];
  return tokens[index].text === "import" && tokens[index].depth === 0 && next !== undefined && next.text !== "(" && next.text !== "." && isStatement(tokens, index);
}

// `import a, { b as c } from "d"` and the like. Returns the index of its last token.
function rewriteImport(source, tokens, index, edits) {
  const { start } = tokens[index];
  const finish = (last, text) => {
    edits[edits.length] = [start, last.end, text + lines(source, start, last.end)];
    return tokens.indexOf(last);
  };
  let next = index + 1;
  if (tokens[next].kind === "text") return finish(tokens[next], `require(${tokens[next].text})`);
  const parts = [];
  for (; next < tokens.length && tokens[next].text !== "from"; next++) {
    const token = tokens[next];
    if (token.text === "{") {
      const close = closing(tokens, next);
      const pattern = names(tokens, next, close).map(([name, alias]) => `${JSON.stringify(name)}:${alias}`);
      parts[parts.length] = (from) => `{${pattern.join(",")}}=require.names(${from})`;
      next = close;
    } else if (token.text === "*") {
      const alias = tokens[next + 2]?.text;
      parts[parts.length] = (from) => `${alias}=require.names(${from})`;
      next += 2;
    } else if (token.kind === "name") {
      parts[parts.length] = (from) => `${token.text}=require.default(${from})`;
    }
  }
  const from = tokens[next + 1];
  if (from?.kind !== "text") throw new SyntaxError('an `import` is not understood: write `import name from "package"`');
  return finish(from, `var ${parts.map((part) => part(from.text)).join(",")}`);
}

// The end of a bracket.
function closing(tokens, index) {
  for (let next = index + 1; next < tokens.length; next++) {
    if (tokens[next].depth === tokens[index].depth && tokens[next].frame) return next;
  }
  throw new SyntaxError("a bracket does not end");
}

// What follows `from`, and the last token before the end of the statement.
function fromClause(tokens, index) {
  const from = tokens[index + 1]?.text === "from" ? tokens[index + 2] : undefined;
  return { from: from?.text, last: from ?? tokens[index] };
}

// `{ a, b as c, "d" as e }`: pairs of a name and what it is called.
function names(tokens, open, close) {
  const pairs = [];
  for (let next = open + 1; next < close; next++) {
    if (tokens[next].text === ",") continue;
    const name = plain(tokens[next]);
    if (tokens[next + 1]?.text === "as") next += 2;
    pairs[pairs.length] = [name, plain(tokens[next])];
  }
  return pairs;
}

const plain = ({ kind, text }) => (kind === "text" ? apply(slice, text, [1, -1]) : text);

// As many lines as a part of a source has.
function lines(source, start, end) {
  const found = apply(match, apply(slice, source, [start, end]), [/\n/g]);
  return apply(repeat, "\n", [found?.length ?? 0]);
}
