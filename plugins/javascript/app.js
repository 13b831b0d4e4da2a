// The component's entry: what `troupe:agent/interpreter` exports.
//
// This module runs while the component is built; what it leaves in memory is the snapshot every call begins with.

import { execute } from "./lib/run.js";
import { executeNext } from "./lib/session.js";

export const interpreter = { execute };
export const session = { execute: executeNext };

// Plumbing of the runtime that is of no use to an author's code.
delete globalThis.__cqjs;
delete globalThis.wit;
