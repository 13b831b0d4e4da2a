// `performance`, whose own clock counts from the build of the snapshot.

const { defineProperty } = Object;
const { now } = performance;
const ticks = now.bind(performance);

/// Lets `performance` begin with the call.
export function beginClock() {
  const origin = ticks();
  const value = { now: () => ticks() - origin, timeOrigin: Date.now() };
  defineProperty(globalThis, "performance", { value, writable: true, configurable: true });
}
