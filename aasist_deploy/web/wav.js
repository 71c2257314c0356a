// WAV files to float samples, as libsndfile reads them: integers are divided by their full scale, so
// that the samples are those of Python to the last bit.

const PCM = 1, IEEE_FLOAT = 3, A_LAW = 6, MU_LAW = 7, EXTENSIBLE = 0xfffe;

// What a person is told: what happened, and what to do about it.
class PageError extends Error {
  constructor(message, fix = "") {
    super(message);
    this.fix = fix;
  }
}

function fourLetters(view, at) {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(at + i)));
}

function isWav(bytes) {
  if (bytes.length < 12) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return ["RIFF", "RF64"].includes(fourLetters(view, 0)) && fourLetters(view, 8) === "WAVE";
}

// G.711 (ITU-T), one byte to a 16-bit value.
function aLaw(byte) {
  const value = byte ^ 0x55, exponent = (value >> 4) & 7;
  const magnitude = ((value & 15) << 4) + 8;
  const scaled = exponent ? (magnitude + 256) << (exponent - 1) : magnitude;
  return value & 0x80 ? scaled : -scaled;
}

function muLaw(byte) {
  const value = ~byte & 0xff;
  const scaled = ((((value & 15) << 3) + 132) << ((value >> 4) & 7)) - 132;
  return value & 0x80 ? -scaled : scaled;
}

// (format, bits) -> bytes of a sample and how to read one at a place of a DataView; or undefined.
function sampleReader(format, bits) {
  const readers = {
    [`${PCM}/8`]: [1, (view, at) => (view.getUint8(at) - 128) / 128],
    [`${PCM}/16`]: [2, (view, at) => view.getInt16(at, true) / 32768],
    [`${PCM}/24`]: [3, (view, at) => (view.getUint8(at) | (view.getInt16(at + 1, true) << 8)) / 8388608],
    [`${PCM}/32`]: [4, (view, at) => view.getInt32(at, true) / 2147483648],
    [`${IEEE_FLOAT}/32`]: [4, (view, at) => view.getFloat32(at, true)],
    [`${IEEE_FLOAT}/64`]: [8, (view, at) => view.getFloat64(at, true)],
    [`${A_LAW}/8`]: [1, (view, at) => aLaw(view.getUint8(at)) / 32768],
    [`${MU_LAW}/8`]: [1, (view, at) => muLaw(view.getUint8(at)) / 32768],
  };
  return readers[`${format}/${bits}`];
}

// Bytes of a WAV file -> {rateHz, channels: [Float32Array], note}, or null where the file's kind of
// samples is none of these and the browser may know it.
function parseWav(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 12, form = null, note = "";
  while (at + 8 <= bytes.length) {
    const name = fourLetters(view, at), declared = view.getUint32(at + 4, true);
    at += 8;
    if (name === "fmt ") {
      if (declared < 16 || at + 16 > bytes.length) break;
      form = {
        format: view.getUint16(at, true),
        channels: view.getUint16(at + 2, true),
        rateHz: view.getUint32(at + 4, true),
        bits: view.getUint16(at + 14, true),
      };
      if (form.format === EXTENSIBLE && declared >= 26 && at + 26 <= bytes.length) {
        form.format = view.getUint16(at + 24, true);
      }
    } else if (name === "data") {
      if (!form) break;
      const reader = sampleReader(form.format, form.bits);
      if (!reader) return null;
      if (!form.channels || form.rateHz < 1000 || form.rateHz > 1536000) {
        throw new PageError(
          `The file says it has ${form.channels} channels at ${form.rateHz} Hz.`,
          "Its header is damaged; save it again.",
        );
      }
      const [size, read] = reader, block = size * form.channels;
      const there = bytes.length - at;
      // A writer that could not go back to its header leaves 0 or the largest number there.
      const length = declared === 0 || declared === 0xffffffff ? there : Math.min(declared, there);
      if (length !== declared) note = "the header declares another length than the file holds";
      const frames = Math.floor(length / block);
      const channels = Array.from({ length: form.channels }, () => new Float32Array(frames));
      channels.forEach((samples, channel) => {
        for (let i = 0, place = at + channel * size; i < frames; i++, place += block) {
          samples[i] = read(view, place);
        }
      });
      return { rateHz: form.rateHz, channels, note };
    }
    at += declared + (declared & 1); // chunks begin at even places
  }
  throw new PageError("This WAV file holds no samples.", "It is damaged or cut short; save it again.");
}

// [(n,) each] -> (n,): the mean over channels, in double precision as in Python.
function toMono(channels) {
  if (channels.length === 1) return channels[0];
  const mono = new Float32Array(channels[0].length);
  for (let i = 0; i < mono.length; i++) {
    let sum = 0;
    for (const samples of channels) sum += samples[i];
    mono[i] = sum / channels.length;
  }
  return mono;
}

function refuseNoSound(samples) {
  for (let i = 0; i < samples.length; i++) {
    if (!Number.isFinite(samples[i])) {
      throw new PageError(`The file holds NaN or infinite samples, first at ${i}.`, "Save it again.");
    }
  }
}

// A browser decodes FLAC to float. Its integers come back exactly: some browsers divide by the full
// scale 2^(bits-1), as we do, some divide positive ones by one less.
function asIntegers(samples, bits) {
  const scale = 2 ** (bits - 1);
  const tolerance = scale * 2 ** -23; // float32 has 24 bits
  for (const positive of [scale, scale - 1]) {
    const integers = new Float32Array(samples.length);
    let exact = true;
    for (let i = 0; exact && i < samples.length; i++) {
      const value = samples[i] * (samples[i] < 0 ? scale : positive);
      const whole = Math.round(value);
      exact = Math.abs(value - whole) <= tolerance * Math.max(1, Math.abs(samples[i]));
      integers[i] = whole / scale;
    }
    if (exact) return integers;
  }
  return null;
}
