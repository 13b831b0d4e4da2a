// Measures npm's quickjs-emscripten and isolated-vm: each program in a fresh runtime or isolate with limits.
//
// Standard input is a JSON list of programs (`name`, `source`, which sets `result`), each line of standard output the
// figures of one. The argument names the package.

const CALLS = 300;
const WARM_UP = 30;
const MEMORY_MB = 128;
const TIME_MS = 60_000;

function inRuntime(quickjs, source) {
  const runtime = quickjs.newRuntime();
  runtime.setMemoryLimit(MEMORY_MB << 20);
  const end = Date.now() + TIME_MS;
  runtime.setInterruptHandler(() => Date.now() > end);
  const context = runtime.newContext();
  const handle = context.unwrapResult(context.evalCode(source));
  const result = context.dump(handle);
  handle.dispose();
  context.dispose();
  runtime.dispose();
  return result;
}

// Each way to run a program, by how it is called in the table.
const WAYS = {
  "quickjs-emscripten": async (name) => {
    const { getQuickJS, newQuickJSWASMModule } = require(name);
    const shared = await getQuickJS();
    return {
      // All runtimes are in the memory of one WebAssembly instance.
      "new runtime": async (source) => inRuntime(shared, source),
      "new instance": async (source) => inRuntime(await newQuickJSWASMModule(), source),
    };
  },
  "isolated-vm": async (name) => {
    const ivm = require(name);
    return {
      "new isolate": async (source) => {
        const isolate = new ivm.Isolate({ memoryLimit: MEMORY_MB });
        const result = isolate.createContextSync().evalSync(source, { timeout: TIME_MS });
        isolate.dispose();
        return result;
      },
    };
  },
};

async function main() {
  const name = process.argv[2];
  const { version } = JSON.parse(require("fs").readFileSync(`node_modules/${name}/package.json`));
  const programs = JSON.parse(require("fs").readFileSync(0));
  const ways = await WAYS[name](name);
  for (const [way, call] of Object.entries(ways)) {
    for (const program of programs) {
      const figures = await measure(call, `${program.source}\nresult`);
      console.log(JSON.stringify({ peer: `${name} ${version}, ${way}`, what: program.name, ...figures }));
    }
  }
}

async function measure(call, source) {
  const times = [];
  for (let i = 0; i < WARM_UP + CALLS; i++) {
    const begun = process.hrtime.bigint();
    const result = await call(source);
    times.push(Number(process.hrtime.bigint() - begun) / 1e3);
    if (result === undefined) throw new Error(`nothing came of: ${source}`);
  }
  const sorted = times.slice(WARM_UP).sort((one, other) => one - other);
  const at = (share) => Math.round(sorted[Math.floor((sorted.length - 1) * share)] * 10) / 10;
  return { p50_us: at(0.5), p99_us: at(0.99) };
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
