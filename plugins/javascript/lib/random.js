// Random numbers that differ from call to call: the engine's own generator is part of the snapshot and would
// give every call the same ones.

/// A generator of numbers from 0 up to 1, by Chris Doty-Humphrey's sfc32 with 128 bits of state.
export function seededRandom(seed) {
  // The seed is a 64-bit number, of which JavaScript sees the upper 53 bits.
  let a = (seed / 4294967296) >>> 0;
  let b = seed >>> 0;
  let c = 0x9e3779b9;
  let counter = 1;

  const next = () => {
    const sum = (a + b + counter) >>> 0;
    counter = (counter + 1) >>> 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) >>> 0;
    c = (((c << 21) | (c >>> 11)) + sum) >>> 0;
    return sum;
  };

  for (let round = 0; round < 12; round++) next();
  // 53 bits, as many as a number has.
  return function random() {
    return ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
  };
}
