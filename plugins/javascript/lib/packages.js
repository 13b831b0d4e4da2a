// `require`: packages of one file each, which the caller puts into one folder. Nothing is looked at before it is asked for.

import preopens from "wasi:filesystem/preopens@0.2.0";

import { beginPlace } from "./errors.js";
import { moduleBody } from "./rewrite.js";

const FOLDER = "/packages";
const ENDINGS = [".js", ".mjs", ".cjs"];
// Protects the program's memory.
const BYTES_MAX = 16 << 20;
// What the host reads at once.
const READ_BYTES = 65_536;
// Longer lists of what there is are cut.
const LISTED_MAX = 50;
// As npm has them: with or without a scope.
const NAME = /^(?:@[A-Za-z0-9_-][\w.-]*\/)?[A-Za-z0-9_][\w.-]*$/;
const NAME_CHARS_MAX = 214;

const OF_NODE = new Set(
  ("assert async_hooks buffer child_process cluster console constants crypto dgram dns domain events fs fs/promises http http2 https " +
    "inspector module net os path perf_hooks process punycode querystring readline repl stream string_decoder sys timers tls " +
    "tty url util v8 vm wasi worker_threads zlib").split(" "),
);

const { Error, Function, Map, Uint8Array, decodeURIComponent, escape, String } = globalThis;
const { apply } = Reflect;
const { fromCharCode } = String;

/// Gives a program `require`, or all of a session's; where nobody gave packages there is none. Whether there is.
export function giveRequire() {
  if (folderOf() === undefined) return false;
  globalThis.require = makeRequire();
  return true;
}

function makeRequire() {
  const modules = new Map();

  const load = (name, by) => {
    const known = modules.get(name);
    if (known !== undefined) return known.exports;
    const source = read(name, by);
    const module = { exports: {}, id: name };
    modules.set(name, module);
    try {
      const before = beginPlace(source, name);
      const body = new Function("exports", "module", "require", before + moduleBody(source));
      apply(body, module.exports, [module.exports, module, requireFor(name)]);
    } catch (error) {
      modules.delete(name);
      if (error instanceof NoPackage) throw error;
      throw new Error(`the package "${name}" cannot be loaded: ${shown(error)}`, { cause: error });
    }
    return module.exports;
  };

  const requireFor = (by) => {
    const require = (name) => load(named(name, by), by);
    // What `import a from` and `import { a } from` take, of modules that have no `default` too.
    require.default = (name) => {
      const exports = require(name);
      return exports?.__esModule ? exports.default : exports;
    };
    require.names = (name) => {
      const exports = require(name);
      return exports?.__esModule ? exports : Object.assign({}, exports, { default: exports });
    };
    return require;
  };

  return requireFor(undefined);
}

// There is no such package: what to do stands in the message, and who wanted it.
class NoPackage extends Error {}

const shown = (error) => {
  try {
    return String(error);
  } catch {
    return "what it threw cannot be shown";
  }
};

function named(name, by) {
  const who = by === undefined ? "" : `the package "${by}" wants "${name}": `;
  if (typeof name !== "string") throw new TypeError("`require` takes the name of a package");
  if (name.startsWith("node:") || OF_NODE.has(name)) {
    // A package of that name may have been given in its place.
    if (OF_NODE.has(name) && NAME.test(name) && open(name) !== undefined) return name;
    throw new NoPackage(
      `${who}"${name}" is a part of Node.js, and there is none here, no files, no network and no processes; take a build for ` +
        "browsers (`esbuild --bundle --platform=browser`), or give something in its place with --package NAME=FILE",
    );
  }
  if (name.length > NAME_CHARS_MAX || !NAME.test(name)) {
    throw new NoPackage(
      `${who}"${name.slice(0, 80)}" is no name of a package; a package is one file: bundle it with what it needs ` +
        "(`esbuild --bundle`)",
    );
  }
  return name;
}

function read(name, by) {
  const file = open(name);
  if (file === undefined) {
    const who = by === undefined ? "" : `the package "${by}" wants "${name}": `;
    const names = list();
    const there = names.length === 0 ? "there are none" : `there are: ${names.join(", ")}`;
    throw new NoPackage(
      `${who}there is no package "${name}" (${there}); give its file with --package ${name}=FILE, or put it at ${FOLDER}/${name}.js`,
    );
  }
  return textOf(file, name);
}

let folder;

function folderOf() {
  folder ??= preopens.getDirectories().find(([, at]) => at === FOLDER)?.[0];
  return folder;
}

function open(name) {
  for (const ending of ENDINGS) {
    try {
      return folder.openAt({ symlinkFollow: true }, `${name}${ending}`, {}, { read: true });
    } catch (error) {
      if (error?.payload !== "no-entry" && error?.payload !== "not-directory") {
        throw new NoPackage(`the package "${name}" cannot be read: ${error?.payload ?? shown(error)}`);
      }
    }
  }
  return undefined;
}

function textOf(file, name) {
  let binary = "";
  for (;;) {
    const [bytes, isEnd] = file.read(READ_BYTES, binary.length);
    for (let start = 0; start < bytes.length; start += 8192) {
      binary += apply(fromCharCode, undefined, bytes.slice(start, start + 8192));
    }
    if (isEnd || bytes.length === 0) break;
    if (binary.length > BYTES_MAX) throw new NoPackage(`the package "${name}" has more than ${BYTES_MAX} bytes`);
  }
  try {
    return decodeURIComponent(escape(binary));
  } catch {
    throw new NoPackage(`the package "${name}" is not UTF-8`);
  }
}

// The names of what there is, those in folders of scopes too.
function list() {
  const found = [];
  const from = (descriptor, scope) => {
    const entries = descriptor.readDirectory();
    for (let entry; found.length < LISTED_MAX && (entry = entries.readDirectoryEntry()); ) {
      const { name, type } = entry;
      const ending = ENDINGS.find((ending) => name.endsWith(ending));
      if (ending !== undefined) found.push(scope + name.slice(0, -ending.length));
      else if (scope === "" && type === "directory" && name.startsWith("@")) {
        from(descriptor.openAt({}, name, { directory: true }, { read: true }), `${name}/`);
      }
    }
  };
  try {
    from(folder, "");
  } catch {
    // The message is about something else.
  }
  return found.sort();
}
