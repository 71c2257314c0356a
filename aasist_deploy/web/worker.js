// Beside the page: opens the model, turns audio into windows and scores them, so that the page stays
// live. Messages in: open, score, stop, live, samples, live-stop. Out: stage, ready, and of each job
// audio, window, done or error.

let model = null; // {ort, session, contract}
let job = 0; // number of the newest file; older ones stop
let live = null;
let queue = Promise.resolve();

async function unpacked(text) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A part of the page, checked against the hash that was written beside it.
async function part(text, name, hash) {
  let bytes;
  try {
    bytes = await unpacked(text);
  } catch {
    throw new PageError(`The ${name} in this page is damaged.`, FIX_EXPORT);
  }
  const found = await sha256(bytes);
  if (found !== hash) {
    throw new PageError(
      `The ${name} in this page was altered: it hashes to ${found.slice(0, 12)}, not ${hash.slice(0, 12)}.`,
      FIX_EXPORT,
    );
  }
  return bytes;
}

async function open({ parts, manifest }) {
  postMessage({ kind: "stage", text: "Unpacking and checking the model" });
  const bytes = await part(parts.model, "model", manifest.model.sha256);
  const contract = await readContract(bytes);
  const script = await part(parts.script, "runtime's script", manifest.runtime.script_sha256);
  const wasm = await part(parts.wasm, "runtime", manifest.runtime.wasm_sha256);
  postMessage({ kind: "stage", text: "Starting the runtime" });
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.wasm.numThreads = 1; // more need headers that a file and most servers do not have
  ort.env.wasm.wasmBinary = wasm;
  ort.env.logLevel = "error";
  let session;
  try {
    session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
  } catch (error) {
    throw new PageError(`The browser's runtime cannot open this model: ${error.message ?? error}`);
  }
  const missing = Object.keys(contract.outputs).filter((name) => !session.outputNames.includes(name));
  if (session.inputNames.length !== 1 || session.inputNames[0] !== contract.input_name || missing.length) {
    throw new PageError("The model's inputs and outputs are not those of its contract.", FIX_EXPORT);
  }
  model = { ort, session, contract };
  // The first run is slow, and finds out whether the runtime has every operator.
  const length = scoredLength(contract, contract.min_samples);
  await score(Float32Array.from({ length }, (_, i) => 0.01 * Math.sin(0.1 * i * (1 + (i % 7)))));
  postMessage({ kind: "ready", contract });
}

// (n,) samples -> the score of that window; one after another, as a session runs one call at a time.
function score(wave) {
  const result = queue.then(() => run(wave));
  queue = result.catch(() => {});
  return result;
}

async function run(wave) {
  const { ort, session, contract } = model;
  const rows = contract.batch[0];
  const input = new Float32Array(rows * wave.length);
  for (let row = 0; row < rows; row++) input.set(wave, row * wave.length);
  const feeds = { [contract.input_name]: new ort.Tensor("float32", input, [rows, wave.length]) };
  const wanted = "score" in contract.outputs ? "score" : "logits";
  const outputs = await session.run(feeds, [wanted]);
  const value = outputs[wanted].data[wanted === "score" ? 0 : 1];
  if (!Number.isFinite(value)) throw new PageError("The model gave no number for these samples.");
  return value;
}

async function rowOf(wave, start, window) {
  const began = performance.now();
  const value = await score(window);
  const rate = model.contract.sample_rate_hz;
  return {
    startS: start / rate,
    endS: (start + Math.min(window.length, wave.length)) / rate,
    score: value,
    ...calibrated(model.contract, value),
    silent: window.every((sample) => sample === 0),
    ms: performance.now() - began,
  };
}

// Lets messages in: a new file, or stop.
const breath = () => new Promise((resolve) => setTimeout(resolve));

function decoded(file) {
  if (!file.bytes) {
    const channels = file.channels.map((samples) => (file.bits && asIntegers(samples, file.bits)) || samples);
    return { rateHz: file.rateHz, channels, note: file.note };
  }
  return parseWav(new Uint8Array(file.bytes));
}

async function scoreFile({ id, file, hopS }) {
  job = id;
  const { contract } = model;
  const source = decoded(file);
  if (!source) {
    postMessage({ kind: "undecoded", id }); // the browser may know this kind of WAV file
    return;
  }
  const mono = toMono(source.channels);
  refuseNoSound(mono);
  const wave = resampled(mono, source.rateHz, contract.sample_rate_hz);
  if (!wave.length) throw new PageError("The file holds no samples.", "Choose another file.");
  const length = windowLength(contract);
  const hop = Math.max(1, Math.round(hopS * contract.sample_rate_hz));
  const nMore = length && wave.length > length ? Math.floor((wave.length - length) / hop) : 0;
  const whole = contract.n_samples === null;
  const total = whole ? 1 + (wave.length > (length ?? wave.length) ? nMore + 1 : 0) : nMore + 1;
  postMessage({
    kind: "audio", id, total, note: source.note ?? "", rateHz: source.rateHz,
    channels: source.channels.length, seconds: mono.length / source.rateHz, nSamples: wave.length,
    tiled: wave.length < scoredLength(contract, wave.length),
    unscoredS: length && wave.length > length ? (wave.length - length - nMore * hop) / contract.sample_rate_hz : 0,
  }); // prettier-ignore
  // The first row is the file's score, as `aasist-deploy score` gives it.
  const first = await rowOf(wave, 0, fitLength(wave, scoredLength(contract, wave.length)));
  postMessage({ kind: "window", id, done: 1, total, isFile: true, inCourse: !whole || total === 1, row: first });
  for (let done = 1; done < total; done++) {
    await breath();
    if (job !== id) return;
    const start = (whole ? done - 1 : done) * hop;
    const row = await rowOf(wave, start, wave.subarray(start, start + length));
    if (job !== id) return;
    postMessage({ kind: "window", id, done: done + 1, total, isFile: false, inCourse: true, row });
  }
  postMessage({ kind: "done", id });
}

function startLive({ id, rateHz, hopS }) {
  const { contract } = model;
  const length = windowLength(contract);
  if (!length) throw new PageError("This model says no window for streams; drop a file.");
  job = id;
  live = {
    id, length, hop: Math.max(1, Math.round(hopS * contract.sample_rate_hz)),
    resampler: rateHz === contract.sample_rate_hz ? null : new Resampler(rateHz, contract.sample_rate_hz),
    held: new Float32Array(0), heldFrom: 0, due: 0, busy: false, nSkipped: 0,
  }; // prettier-ignore
}

async function hear({ id, samples }) {
  if (!live || live.id !== id) return;
  const state = live, { length, hop } = state;
  const fresh = state.resampler ? state.resampler.push(samples) : samples;
  const held = new Float32Array(state.held.length + fresh.length);
  held.set(state.held);
  held.set(fresh, state.held.length);
  state.held = held;
  if (!state.busy) {
    state.busy = true;
    try {
      while (live === state && state.heldFrom + state.held.length >= state.due + length) {
        // Behind: only the newest window is scored, and the others are counted.
        const last = Math.floor((state.heldFrom + state.held.length - length) / hop) * hop;
        state.nSkipped += (last - state.due) / hop;
        const from = last - state.heldFrom;
        const window = state.held.slice(from, from + length);
        state.held = state.held.slice(from);
        state.heldFrom = last;
        state.due = last + hop;
        const row = await rowOf(window, last, window);
        if (live !== state) return;
        postMessage({ kind: "live-window", id, row, nSkipped: state.nSkipped });
        await breath();
      }
    } finally {
      state.busy = false;
    }
  }
  const rate = model.contract.sample_rate_hz;
  const missing = state.due === 0 ? (length - state.heldFrom - state.held.length) / rate : 0;
  postMessage({ kind: "heard", id, seconds: (state.heldFrom + state.held.length) / rate, missing: Math.max(0, missing) });
}

const ACTIONS = {
  open,
  score: scoreFile,
  stop: () => (job = -1),
  live: startLive,
  samples: hear,
  "live-stop": () => (live = null),
};

globalThis.onmessage = async ({ data }) => {
  try {
    await ACTIONS[data.kind](data);
  } catch (error) {
    const plain = error instanceof PageError;
    postMessage({
      kind: data.kind === "open" ? "refused" : "error",
      id: data.id,
      message: plain ? error.message : `Scoring failed: ${error.message ?? error}`,
      fix: plain ? error.fix : "",
    });
  }
};
