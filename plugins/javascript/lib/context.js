// The variable `context`: what the workflow knows so far, asked for when it is looked at.

import host from "troupe:agent/context@0.1.0";

const { parse } = JSON;

export function makeContext() {
  const known = new Map();
  let inputs;

  const output = (step) => {
    if (!known.has(step)) known.set(step, parse(fetchOutput(step)));
    return known.get(step);
  };

  // `context.outputs.plan`: properties that are fetched when they are read.
  const outputs = new Proxy(Object.create(null), {
    get: (_, step) => (typeof step === "string" && host.steps().includes(step) ? output(step) : undefined),
    has: (_, step) => host.steps().includes(step),
    ownKeys: () => host.steps(),
    getOwnPropertyDescriptor: (_, step) =>
      host.steps().includes(step)
        ? { value: output(step), enumerable: true, configurable: true, writable: false }
        : undefined,
    set: () => false,
  });

  return Object.freeze({
    get inputs() {
      return (inputs ??= parse(host.inputs()));
    },
    output,
    outputs,
  });
}

function fetchOutput(step) {
  try {
    return host.output(String(step));
  } catch (error) {
    throw new Error(explain(step, error.payload));
  }
}

function explain(step, payload) {
  switch (payload?.tag) {
    case "not-found":
      return `there is no output of the step "${step}"; there are: ${host.steps().join(", ") || "none"}`;
    case "denied":
      return payload.val.message;
    default:
      return `the output of the step "${step}" cannot be read: ${payload?.tag} ${payload?.val ?? ""}`;
  }
}
