// Turns a program's result into JSON, and says where it cannot. `JSON.stringify` would drop what it does not know
// without a word.

const { stringify } = JSON;
const { isArray } = Array;
const { keys } = Object;

// Deeper values cannot be read by the host.
const DEPTH_MAX = 120;

export function toJson(value) {
  return write(value === undefined ? null : value, "result", []);
}

function write(value, path, around) {
  switch (typeof value) {
    case "string":
      if (!value.isWellFormed()) throw new TypeError(`${path} holds half a character (a lone surrogate)`);
      return stringify(value);
    case "number":
      if (!Number.isFinite(value)) throw new TypeError(`${path} is ${value}, which JSON cannot express`);
      return stringify(value);
    case "boolean":
      return value ? "true" : "false";
    case "object":
      return value === null ? "null" : writeObject(value, path, around);
    case "bigint":
      throw new TypeError(`${path} is a BigInt, which has no JSON form; use Number(…) or String(…)`);
    default:
      throw new TypeError(`${path} is ${value === undefined ? "undefined" : `a ${typeof value}`}, which has no JSON form`);
  }
}

function writeObject(value, path, around) {
  if (around.includes(value)) throw new TypeError(`${path} contains itself`);
  if (around.length >= DEPTH_MAX) {
    throw new TypeError(`${path.slice(0, 80)}… is nested more than ${DEPTH_MAX} levels deep`);
  }
  const inside = [...around, value];
  if (typeof value.toJSON === "function") return write(value.toJSON(""), path, inside);
  if (isArray(value)) return writeList(value, path, inside);
  if (value instanceof Set || ArrayBuffer.isView(value)) return writeList([...value], path, inside);
  if (value instanceof Map) return writeMap(value, path, inside);
  if (value instanceof Number || value instanceof String || value instanceof Boolean) {
    return write(value.valueOf(), path, inside);
  }
  for (const kind of [Promise, RegExp, WeakMap, WeakSet, ArrayBuffer]) {
    if (value instanceof kind) throw new TypeError(`${path} is a ${kind.name}, which has no JSON form`);
  }
  if (value instanceof Error) {
    return writeEntries([["name", value.name], ["message", value.message]], path, inside);
  }
  return writeEntries(keys(value).map((key) => [key, value[key]]), path, inside);
}

function writeList(list, path, inside) {
  const items = [];
  for (let index = 0; index < list.length; index++) items.push(write(list[index], `${path}[${index}]`, inside));
  return `[${items.join(",")}]`;
}

function writeMap(map, path, inside) {
  for (const key of map.keys()) {
    if (typeof key !== "string") throw new TypeError(`${path} is a Map with a key that is no string`);
  }
  return writeEntries([...map], path, inside);
}

// As in `JSON.stringify`, a property that is undefined is one that is not there.
function writeEntries(entries, path, inside) {
  const members = [];
  for (const [key, value] of entries) {
    if (value === undefined) continue;
    const place = /^[A-Za-z_$][\w$]*$/.test(key) ? `${path}.${key}` : `${path}[${stringify(key)}]`;
    members.push(`${write(key, `a key of ${path}`, inside)}:${write(value, place, inside)}`);
  }
  return `{${members.join(",")}}`;
}
