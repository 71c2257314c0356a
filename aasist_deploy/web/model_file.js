// What a model file says of itself (docs/contract.md), read from its bytes and enforced.

const SCHEMA = "aasist-deploy/contract/1";
const GRAPH_FIELD = 7, METADATA_FIELD = 14; // of ONNX's ModelProto
const MAX_TAG = 2 ** 32 - 1; // protobuf drops the bits above, and would see another field
const ORT_FORMAT = [79, 82, 84, 77]; // ORTM at byte 4: the runtime takes the file for its own format
const MIN_RATE_HZ = 1000, MAX_RATE_HZ = 1536000; // as of audio: from one to the other, the resampler stays small
const MAX_CALL_SAMPLES = 2 ** 24; // 64 MiB; a window that lasts 17 minutes at 16 kHz
const FIX_EXPORT = "Write the page again: aasist-deploy export MODEL --to web -o FOLDER";

const SHA256_CONSTANTS = (() => {
  // First 32 bits of the fractional parts of the cube and square roots of the first primes (FIPS 180-4).
  const primes = [];
  for (let n = 2; primes.length < 64; n++) {
    if (primes.every((prime) => n % prime)) primes.push(n);
  }
  const bits = (value) => Math.floor((value - Math.floor(value)) * 2 ** 32) | 0;
  return { rounds: primes.map((p) => bits(Math.cbrt(p))), start: primes.slice(0, 8).map((p) => bits(Math.sqrt(p))) };
})();

// For pages that a browser does not trust with its own (http from another machine).
function sha256InScript(bytes) {
  const { rounds, start } = SHA256_CONSTANTS;
  const padded = new Uint8Array(((bytes.length + 8) >> 6) * 64 + 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, (bytes.length * 8) >>> 0);
  const turned = (x, n) => (x >>> n) | (x << (32 - n));
  const state = Int32Array.from(start), words = new Int32Array(64);
  for (let block = 0; block < padded.length; block += 64) {
    for (let i = 0; i < 16; i++) words[i] = view.getInt32(block + 4 * i);
    for (let i = 16; i < 64; i++) {
      const a = words[i - 15], b = words[i - 2];
      const s0 = turned(a, 7) ^ turned(a, 18) ^ (a >>> 3), s1 = turned(b, 17) ^ turned(b, 19) ^ (b >>> 10);
      words[i] = words[i - 16] + s0 + words[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const s1 = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + rounds[i] + words[i]) | 0;
      const s0 = turned(a, 2) ^ turned(a, 13) ^ turned(a, 22);
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => (state[i] += value));
  }
  return [...state].map((value) => (value >>> 0).toString(16).padStart(8, "0")).join("");
}

async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return sha256InScript(bytes);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function varint(bytes, at) {
  let value = 0;
  for (let shift = 0; shift < 70; shift += 7) {
    if (at >= bytes.length) throw new PageError("The model is cut short.", FIX_EXPORT);
    const byte = bytes[at++];
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [value, at];
  }
  throw new PageError("The model is damaged.", FIX_EXPORT);
}

// Fields of one protobuf message: {number, content}, content null where it is a number.
function* protobufFields(bytes) {
  for (let at = 0; at < bytes.length; ) {
    let tag, length;
    [tag, at] = varint(bytes, at);
    if (tag > MAX_TAG) throw new PageError("The model is damaged.", FIX_EXPORT);
    const kind = tag & 7, number = Math.floor(tag / 8);
    if (kind === 0) {
      [, at] = varint(bytes, at);
      yield { number, content: null };
      continue;
    }
    if (kind === 2) [length, at] = varint(bytes, at);
    else if (kind === 1 || kind === 5) length = kind === 1 ? 8 : 4;
    else throw new PageError("The model is no ONNX file.", FIX_EXPORT);
    if (at + length > bytes.length) throw new PageError("The model is cut short.", FIX_EXPORT);
    yield { number, content: kind === 2 ? bytes.subarray(at, at + length) : null };
    at += length;
  }
}

const TEXTS = ["schema", "architecture", "checkpoint_sha256", "graph_sha256", "padding", "input_name", "score", "precision"];
const VALUES = [
  "config", "sample_rate_hz", "n_samples", "min_samples", "max_samples", "outputs", "class_order", "fp32_nodes", "gate",
  "topk", "batch", "calibration", "thresholds", "tools", "stream",
]; // prettier-ignore

// A value out of a file, short enough for a message.
function shown(value) {
  let text;
  try {
    text = String(JSON.stringify(value));
  } catch {
    text = "nested too deeply"; // for the stack
  }
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

// Bytes of an exported file -> its contract, after every check that a reader has to make.
async function readContract(bytes) {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }), metadata = new Map();
  let graph = null;
  if (ORT_FORMAT.every((code, i) => bytes[4 + i] === code)) throw new PageError("The model is no ONNX file.", FIX_EXPORT);
  for (const { number, content } of protobufFields(bytes)) {
    if (!content) continue;
    if (number === GRAPH_FIELD) {
      if (graph) throw new PageError("The model holds two graphs.", FIX_EXPORT);
      graph = content;
    } else if (number === METADATA_FIELD) {
      const entry = { 1: "", 2: "" };
      try {
        for (const part of protobufFields(content)) if (part.content) entry[part.number] = text.decode(part.content);
      } catch (error) {
        if (error instanceof PageError) throw error;
        throw new PageError("The model is damaged: its metadata is no UTF-8.", FIX_EXPORT);
      }
      metadata.set(entry[1], entry[2]);
    }
  }
  if (!graph || metadata.get("schema") !== SCHEMA) {
    const found = metadata.has("schema") ? shown(metadata.get("schema")) : "missing";
    throw new PageError(`The model's contract is ${found}; this page reads '${SCHEMA}'.`, FIX_EXPORT);
  }
  // Metadata of other programs is none of ours.
  const contract = {};
  try {
    for (const name of TEXTS) if (metadata.has(name)) contract[name] = metadata.get(name);
    for (const name of VALUES) if (metadata.has(name)) contract[name] = JSON.parse(metadata.get(name));
  } catch {
    throw new PageError("The model's contract cannot be read.", FIX_EXPORT);
  }
  const hash = await sha256(graph);
  if (contract.graph_sha256 !== hash) {
    throw new PageError(
      `The model was altered: its graph hashes to ${hash.slice(0, 12)}, its contract says ` +
        `${String(contract.graph_sha256).slice(0, 12)}.`,
      FIX_EXPORT,
    );
  }
  return checkedContract(contract);
}

// Control characters, separators of lines and paragraphs, and halves of characters.
const NOT_IN_A_LINE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]/u;

// Refuses what is no text, or no single line, where people and programs take it for one.
function checkLines(contract, isMapping) {
  const texts = [];
  for (const name of TEXTS) if (name in contract) texts.push([name, contract[name]]);
  for (const name of ["class_order", "fp32_nodes"]) {
    if (Array.isArray(contract[name])) for (const one of contract[name]) texts.push([name, one]);
  }
  for (const name of ["outputs", "thresholds", "tools"]) {
    if (!isMapping(contract[name])) continue;
    for (const [key, value] of Object.entries(contract[name])) {
      texts.push([`name in ${name}`, key]);
      if (name !== "thresholds") texts.push([`${name}[${shown(key)}]`, value]);
    }
  }
  for (const [name, value] of texts) {
    if (typeof value !== "string" || NOT_IN_A_LINE.test(value)) {
      throw new PageError(
        `The model's contract says ${name} is ${shown(value)}; it must be one line of text.`,
        FIX_EXPORT,
      );
    }
  }
}

function checkedContract(given) {
  const contract = {
    max_samples: null, padding: "tile", input_name: "wave", class_order: ["spoof", "bonafide"],
    score: "logit of bona fide", precision: "fp32", gate: null, batch: [1, null],
    calibration: null, thresholds: {}, tools: {}, stream: null, ...given,
  }; // prettier-ignore
  const isCount = (value) => Number.isSafeInteger(value) && value >= 1;
  const isCountOrNull = (value) => value === null || isCount(value);
  const isMapping = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
  const { outputs, calibration, batch } = contract;
  checkLines(contract, isMapping);
  const checks = [
    [
      Number.isSafeInteger(contract.sample_rate_hz) &&
        contract.sample_rate_hz >= MIN_RATE_HZ && contract.sample_rate_hz <= MAX_RATE_HZ,
      "sample_rate_hz",
    ],
    [isCountOrNull(contract.n_samples), "n_samples"],
    [isCount(contract.min_samples), "min_samples"],
    [isCountOrNull(contract.max_samples), "max_samples"],
    [contract.padding === "tile", "padding"],
    [Array.isArray(batch) && isCount(batch[0]) && isCountOrNull(batch[1]), "batch"],
    [isMapping(outputs) && (Object.hasOwn(outputs, "score") || Object.hasOwn(outputs, "logits")), "outputs"],
    [contract.class_order?.[1] === "bonafide", "class_order"],
    [contract.stream === null, "stream"],
    [
      calibration === null ||
        (Number.isFinite(calibration?.scale) && calibration.scale > 0 && Number.isFinite(calibration.offset)),
      "calibration",
    ],
    [isMapping(contract.thresholds) && Object.values(contract.thresholds).every(Number.isFinite), "thresholds"],
  ]; // prettier-ignore
  for (const [good, name] of checks) {
    if (!good) {
      throw new PageError(
        `The model's contract says ${name} is ${shown(contract[name])}; this page cannot act on it.`,
        FIX_EXPORT,
      );
    }
  }
  const most = batch[0] * (contract.n_samples ?? contract.min_samples);
  if (most > MAX_CALL_SAMPLES) {
    throw new PageError(
      `The model takes ${most} samples at once; this page gives at most ${MAX_CALL_SAMPLES}.`,
      "Score it with aasist-deploy.",
    );
  }
  return contract;
}

// The first samples of a wave, or the wave repeated until it is long enough: never zeros.
function fitLength(wave, nSamples) {
  if (wave.length >= nSamples) return wave.subarray(0, nSamples);
  const window = new Float32Array(nSamples);
  for (let at = 0; at < nSamples; at += wave.length) {
    window.set(wave.subarray(0, Math.min(wave.length, nSamples - at)), at);
  }
  return window;
}

// Samples that a clip of n samples is scored with, as `aasist-deploy score` takes them.
function scoredLength(contract, n) {
  if (contract.n_samples !== null) return contract.n_samples;
  return Math.max(contract.min_samples, Math.min(n, contract.max_samples ?? n));
}

// Samples of a sliding window, or null where a model of any length does not say what it was trained on.
function windowLength(contract) {
  if (contract.n_samples !== null) return contract.n_samples;
  const trained = contract.config?.nb_samp;
  if (!Number.isInteger(trained)) return null;
  return Math.max(contract.min_samples, Math.min(trained, contract.max_samples ?? trained));
}

// Score -> what a calibrated model says besides, for a prior of one half.
function calibrated(contract, score) {
  if (!contract.calibration) return { llr: null, pSpoof: null };
  const llr = contract.calibration.scale * score + contract.calibration.offset;
  return { llr, pSpoof: 1 / (1 + Math.exp(llr)) };
}
