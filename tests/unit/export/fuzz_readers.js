// Gives the web page's readers damaged files. Each must end in a result or in the page's own error,
// with a message that fits a screen, in little time and memory. Deterministic for a seed.

// {sources, wavs, others, models: base64 of files, parts: [{metadata, graph}], kept: [{kind, file}], seed, examples, seconds}
// -> {counts, whole: of the files as they were, kept: what became of each, finds}
async function fuzzReaders(given) {
  const MAX_MS = 10_000; // of one file; seen: 150
  const MAX_MESSAGE = 400; // characters
  // Of numbers, in all: tables, and 8 bits at 1 kHz that become 16 times 4 bytes some times over; or a window at its largest.
  const allowed = { audio: (n) => 2 ** 24 + 512 * n, model: () => 3 * 2 ** 26 };
  const WORDS = [
    "null", "true", "-1", "0", "1", "1.5", "1e400", "1e15", "9007199254740993", '"x"', "[]", "[null]", "{}", '{"score":1}',
    "[1]", "[0,1]", "[1,2]", "[1e9,null]", '["bonafide","spoof"]', '["x","bonafide"]', "{", "", "NaN", '"\\ud800"',
    '{"__proto__":{"score":1}}', '{"scale":1e308,"offset":1e308}', '{"scale":-1,"offset":0}', '{"scale":1,"offset":null}',
    '{"nb_samp":1e300}', '{"nb_samp":-5}', '{"nb_samp":"a"}', "[".repeat(20_000) + "]".repeat(20_000),
    "[".repeat(50_000), '"' + "x".repeat(50_000) + '"', '{"a":'.repeat(20_000) + "1" + "}".repeat(20_000),
  ]; // prettier-ignore
  const NUMBERS = [0, 1, 2, 255, 999, 1000, 65535, 1535999, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

  let taken = 0, most = 0;
  const counted = (Kind) =>
    class extends Kind {
      constructor(...how) {
        if (typeof how[0] === "number") taken += how[0] * Kind.BYTES_PER_ELEMENT;
        if (taken > most) throw new Error(`takes more than ${most} bytes`);
        super(...how);
      }
    };
  const page = new Function(
    "Float32Array", "Float64Array",
    `${given.sources}\nreturn {PageError, isWav, parseWav, toMono, refuseNoSound, asIntegers, describe, resampled,
      readContract, checkedContract, sha256, sha256InScript, fitLength, scoredLength, windowLength, calibrated};`,
  )(counted(Float32Array), counted(Float64Array)); // prettier-ignore

  let state = given.seed >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0; // mulberry32, public domain
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n) => Math.floor(random() * n);
  const one = (list) => list[below(list.length)];
  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const base64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  const joined = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));

  function damaged(seeds) {
    let bytes = one(seeds);
    for (let n = 1 + below(4); n > 0; n--) {
      const at = below(bytes.length + 1), to = Math.min(bytes.length, at + below(32));
      const number = new DataView(new ArrayBuffer(4));
      number.setUint32(0, one([...NUMBERS, bytes.length]), random() < 0.8);
      const piece = new Uint8Array(number.buffer);
      const other = one(seeds), from = below(other.length);
      bytes = [
        () => joined(bytes.subarray(0, at), [below(256)], bytes.subarray(at + 1)),
        () => joined(bytes.subarray(0, at), [bytes[at] ^ (1 << below(8))], bytes.subarray(at + 1)),
        () => joined(bytes.subarray(0, Math.min(at, 60)), piece, bytes.subarray(Math.min(at, 60) + 4)), // where headers are
        () => joined(bytes.subarray(0, at), piece.subarray(0, 2), bytes.subarray(at + 2)),
        () => bytes.subarray(0, at),
        () => joined(bytes.subarray(0, at), bytes.subarray(to)),
        () => joined(bytes.subarray(0, to), bytes.subarray(at)),
        () => joined(bytes.subarray(0, at), other.subarray(from, from + 64), bytes.subarray(at)),
      ][below(8)](); // prettier-ignore
    }
    return bytes;
  }

  const varint = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...varint(n >>> 7)]);
  const field = (number, bytes) => [...varint((number << 3) | 2), ...varint(bytes.length), ...bytes];
  // A model whose metadata has hostile values, and whose graph is the one it was written for.
  async function hostile({ metadata, graph }) {
    const entries = new Map(Object.entries(metadata)), encoder = new TextEncoder();
    for (let n = 1 + below(3); n > 0; n--) {
      const key = one([...entries.keys(), "stream", "max_samples", "tools", "note", "__proto__", "constructor", ""]);
      if (random() < 0.1) entries.delete(key);
      else entries.set(key, one(WORDS));
    }
    if (random() < 0.95) entries.set("graph_sha256", await page.sha256(graph));
    const parts = [...entries].map(([key, value]) => {
      const texts = [field(1, encoder.encode(key)), field(2, encoder.encode(value))];
      if (random() < 0.02) texts.push([1 << 3, 5]);
      return field(14, texts.flat());
    });
    return Uint8Array.from([8, 9, ...field(7, graph), ...parts.flat()]);
  }

  const useAllOfIt = (bytes) => useAudio(bytes, true);
  function useAudio(bytes, resample = random() < 0.05) {
    if (!page.isWav(bytes)) return void page.describe(bytes);
    const audio = page.parseWav(bytes);
    if (audio === null) return void page.describe(bytes);
    const mono = page.toMono(audio.channels);
    page.refuseNoSound(mono);
    if (random() < 0.03) page.asIntegers(mono, 16);
    const wave = resample ? page.resampled(mono, audio.rateHz, 16_000) : mono;
    if (wave.length && page.fitLength(wave, 1000).length !== 1000) throw new Error("window of another length");
  }

  async function useModel(bytes) {
    const contract = await page.readContract(bytes);
    for (const n of [1, 64_600, 2 ** 40]) {
      const length = page.scoredLength(contract, n), window = page.windowLength(contract);
      if (!Number.isSafeInteger(length) || length < 1) throw new Error(`scores ${length} samples`);
      if (window !== null && (!Number.isSafeInteger(window) || window < 1)) throw new Error(`window of ${window}`);
    }
    page.fitLength(new Float32Array(10), page.scoredLength(contract, 10)); // what opening does
    new (counted(Float32Array))(contract.batch[0] * page.scoredLength(contract, contract.min_samples));
    const { llr, pSpoof } = page.calibrated(contract, 0.5);
    if (Number.isNaN(llr) || Number.isNaN(pSpoof)) throw new Error("calibrated to NaN");
    page.resampled(new Float32Array(10), 44_100, contract.sample_rate_hz);
  }

  const counts = { audio: { results: 0, refusals: 0 }, model: { results: 0, refusals: 0 }, slowest_ms: 0 };
  const finds = [];
  async function check(kind, bytes, use) {
    taken = 0;
    most = allowed[kind](bytes.length);
    const began = performance.now();
    let wrong = null, outcome = "result";
    try {
      await use(bytes);
      counts[kind].results++;
    } catch (error) {
      const plain = error instanceof page.PageError;
      outcome = error.message;
      if (!plain) wrong = `${error.name}: ${String(error.message).slice(0, 200)}`;
      else if (!error.message || error.message.length > MAX_MESSAGE) wrong = `a message of ${error.message.length} letters`;
      counts[kind].refusals++;
    }
    const ms = performance.now() - began;
    counts.slowest_ms = Math.max(counts.slowest_ms, ms);
    if (ms > MAX_MS) wrong = `took ${Math.round(ms)} ms`;
    if (wrong && finds.filter((find) => find.wrong.slice(0, 40) === wrong.slice(0, 40)).length < 2) finds.push({ kind, wrong, file: base64(bytes.subarray(0, 4000)) });
    return outcome;
  }

  const audio = [...given.wavs, ...given.others].map(bytesOf), models = given.models.map(bytesOf);
  const parts = given.parts.map(({ metadata, graph }) => ({ metadata, graph: bytesOf(graph) }));
  const kept = [];
  for (const { kind, file } of given.kept) kept.push(await check(kind, bytesOf(file), kind === "audio" ? useAllOfIt : useModel));
  for (const bytes of audio) await check("audio", bytes, useAllOfIt);
  for (const bytes of models) await check("model", bytes, useModel);
  const whole = structuredClone(counts);
  const until = performance.now() + given.seconds * 1000;
  for (let n = 0; n < given.examples && performance.now() < until; n++) {
    await check("audio", damaged(audio), (bytes) => useAudio(bytes));
    if (random() < 0.5) await check("model", damaged(models), useModel);
    else await check("model", await hostile(one(parts)), useModel);
  }
  return { whole, counts, kept, finds };
}
