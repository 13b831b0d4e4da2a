// Finds what of a source stands at its top level, without running it. It is no parser: where it reads a source wrongly,
// what was made of it does not compile, and whoever asked takes the source as it is.

const { apply } = Reflect;
const { test } = RegExp.prototype;
const { slice } = String.prototype;

// What the characters of a name are, and how else a name may begin.
const IN_NAME = new Uint8Array(128);
const DIGIT = 2;
for (const character of "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_$#\\") IN_NAME[character.charCodeAt(0)] = 1;
for (const character of "0123456789") IN_NAME[character.charCodeAt(0)] = DIGIT;

const NUMBER = /(?:\d[\d_]*n?(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*|[\w$]*)/y;
// Unrolled: a text may have megabytes, and the engine remembers where each alternative began.
const TEXT = /"[^"\\\n]*(?:\\[^][^"\\\n]*)*"|'[^'\\\n]*(?:\\[^][^'\\\n]*)*'/y;
const REGULAR = /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y;
const TEMPLATE = /[^`\\$]*(?:(?:\\[^]|\$(?!\{))[^`\\$]*)*(?:`|\$\{)/y;

const BEFORE_EXPRESSION = new Set(
  "return typeof case do else in instanceof new void delete throw yield await of extends default".split(" "),
);
const BEFORE_BLOCK = new Set(["do", "else", "try", "finally", "catch", "static"]);
const WITH_HEAD = new Set(["if", "for", "while", "with", "switch", "catch"]);
const BEFORE_REGULAR = new Set(["if", "for", "while", "with"]);

/// The tokens of a source that are in no function. Each has its text, place and kind; `depth`, how many brackets are around
/// it, and `around`, the kind of the innermost; `isAfterLine`, whether a line begins between it and the token before it. A
/// bracket that closes has the depth of the one that opens, and its `frame`, what they enclose.
export function scan(source) {
  const tokens = [];
  const frames = [];
  let functions = 0;
  let at = 0;
  let before = null; // The token before, in a function or not.
  let isAfterLine = false;
  let classDepth = -1; // Where the body of a class is expected.

  const match = (pattern) => {
    pattern.lastIndex = at;
    return apply(test, pattern, [source]) ? apply(slice, source, [at, pattern.lastIndex]) : "";
  };
  const endOf = (text, from, length) => {
    const found = source.indexOf(text, from);
    return found < 0 ? source.length : found + length;
  };
  const sign = () => {
    const one = source[at];
    const next = source[at + 1];
    if ((one === "=" && next === ">") || ((one === "+" || one === "-") && next === one)) return one + next;
    return one === "." && next === "." && source[at + 2] === "." ? "..." : one;
  };
  const add = (kind, text, frame) => {
    const depth = frames.length;
    const around = depth === 0 ? "block" : frames[depth - 1].kind;
    const token = { kind, text, start: at, end: at + text.length, depth, around, isAfterLine, frame };
    if (functions === 0) tokens[tokens.length] = token;
    before = token;
    isAfterLine = false;
    at = token.end;
  };
  const open = (text, kind, head) => {
    add("sign", text);
    frames[frames.length] = { kind, head };
    if (kind === "function") functions++;
  };
  const close = (text) => {
    const frame = frames[frames.length - 1];
    if (frame === undefined) return add("sign", text);
    frames.length--;
    if (frame.kind === "function") functions--;
    if (frame.kind !== "template") return add("sign", text, frame);
    at++;
    template();
  };
  // From after its beginning, or after an expression in it.
  const template = () => {
    const text = match(TEMPLATE) || apply(slice, source, [at]);
    add("template", text);
    if (text.endsWith("${")) frames[frames.length] = { kind: "template" };
  };

  while (at < source.length) {
    // The first character tells nearly all. Patterns are slow here: they are for what is rare.
    const code = source.charCodeAt(at);
    if (code <= 32 || isWideBlank(code)) {
      if (code === 10) isAfterLine = true;
      at++;
      continue;
    }
    const isSlash = code === 47;
    if (isSlash && source.charCodeAt(at + 1) === 47) {
      at = endOf("\n", at, 0);
      continue;
    }
    if (isSlash && source.charCodeAt(at + 1) === 42) {
      const end = endOf("*/", at + 2, 2);
      if (source.slice(at, end).includes("\n")) isAfterLine = true;
      at = end;
      continue;
    }
    const kind = code >= 128 ? 1 : IN_NAME[code];
    let text;
    if (kind === 1) {
      let end = at + 1;
      for (let next; end < source.length; end++) {
        next = source.charCodeAt(end);
        if (next < 128 && IN_NAME[next] === 0) break;
      }
      text = source.slice(at, end);
      if (text === "class" && before?.text !== ".") classDepth = frames.length;
      const head = before?.text;
      add("name", text);
      before.head = head;
      continue;
    }
    if ((kind === DIGIT || code === 46) && (text = match(NUMBER)) !== "") {
      add("number", text);
    } else if ((code === 34 || code === 39) && (text = match(TEXT)) !== "") {
      add("text", text);
    } else if (code === 96) {
      at++;
      template();
    } else if (isSlash && isRegularNext(before) && (text = match(REGULAR)) !== "") {
      add("regular", text);
    } else {
      text = sign();
      if (text === "(" || text === "[") {
        open(text, text, headOf(before));
      } else if (text === "{") {
        const isClass = classDepth === frames.length;
        if (isClass) classDepth = -1;
        open(text, isClass ? "class" : kindOfBrace(before, frames[frames.length - 1]));
      } else if (text === ")" || text === "]" || text === "}") {
        close(text);
      } else {
        add("sign", text);
      }
    }
  }
  return tokens;
}

const isWideBlank = (code) => code === 0xa0 || code === 0xfeff || (code >= 0x2000 && code <= 0x2029) || code === 0x3000;

// The word before a bracket: what the bracket belongs to.
function headOf(before) {
  if (before?.kind !== "name" || before.head === ".") return "";
  return before.text === "await" && before.head === "for" ? "for" : before.text;
}

function kindOfBrace(before, around) {
  if (before === null) return "block";
  const { kind, text, frame } = before;
  if (text === "=>") return "function";
  if (text === ")") {
    const isMethod = around?.kind === "object" || around?.kind === "class";
    return !isMethod && WITH_HEAD.has(frame?.head) ? "block" : "function";
  }
  if (text === ":") return around?.kind === "object" ? "object" : "block";
  if (kind === "name") return BEFORE_BLOCK.has(text) ? "block" : "object";
  return text === ";" || text === "}" || (text === "{" && around?.kind !== "object") ? "block" : "object";
}

function isRegularNext(before) {
  if (before === null) return true;
  switch (before.kind) {
    case "name":
      return BEFORE_EXPRESSION.has(before.text) && before.head !== ".";
    case "sign":
      if (before.text === ")") return BEFORE_REGULAR.has(before.frame?.head);
      if (before.text === "}") return before.frame?.kind === "block";
      return before.text !== "]" && before.text !== "++" && before.text !== "--";
    default:
      return false;
  }
}

const endsOperand = ({ kind, text }) =>
  kind === "name" ? !BEFORE_EXPRESSION.has(text) : kind !== "sign" || ")]}".includes(text) || text === "++" || text === "--";

const beginsStatement = ({ kind, text }) =>
  kind === "name" ? text !== "in" && text !== "instanceof" && text !== "of" : kind === "number" || kind === "text" || "{!~".includes(text) || text === "++" || text === "--";

/// Whether a statement begins with this token of the top level.
export function isStatement(tokens, index) {
  if (tokens[index].frame !== undefined) return false; // It closes a bracket.
  const before = tokens[index - 1];
  if (before === undefined || before.text === ";" || before.text === "}") return true;
  return tokens[index].isAfterLine && endsOperand(before);
}

/// The index of the token after a statement: of its `;`, or of what follows it.
export function endOfStatement(tokens, index) {
  const { depth } = tokens[index];
  for (let next = index + 1; next < tokens.length; next++) {
    const token = tokens[next];
    if (token.depth < depth) return next;
    if (token.depth > depth) continue;
    if (token.text === ";" && token.kind === "sign") return next;
    if (token.isAfterLine && endsOperand(tokens[next - 1]) && beginsStatement(token)) return next;
  }
  return tokens.length;
}

/// The declarations after `let`, `const` or `var`: their names, whether each has a value, and `isPlain`: none takes others
/// apart.
export function declared(tokens, index, end) {
  const { depth } = tokens[index];
  const names = [];
  let isPlain = true;
  let isNext = true;
  for (let next = index + 1; next < end; next++) {
    const token = tokens[next];
    if (token.depth !== depth) continue;
    if (token.text === "," && token.kind === "sign") {
      isNext = true;
    } else if (isNext) {
      isNext = false;
      if (token.kind === "name") {
        names[names.length] = { token, hasValue: next + 1 < end && tokens[next + 1].text === "=" };
      } else {
        isPlain = false;
      }
    }
  }
  return { names, isPlain };
}

/// A source with other texts in some places: `[start, end, text]`, in order.
export function edited(source, edits) {
  let text = "";
  let at = 0;
  for (const [start, end, other] of edits) {
    text += apply(slice, source, [at, start]) + other;
    at = end;
  }
  return text + apply(slice, source, [at]);
}
