// Files that are no WAV: the browser decodes them, at the file's own sample rate where that can be
// told, so that the page's resampler is the only one.

const UNKNOWN_RATE_HZ = 48000;

function find(bytes, letters, from = 0, to = bytes.length) {
  const codes = [...letters].map((letter) => letter.charCodeAt(0)), part = bytes.subarray(from, to);
  for (let at = part.indexOf(codes[0]); at >= 0 && at + codes.length <= part.length; at = part.indexOf(codes[0], at + 1)) {
    if (codes.every((code, i) => part[at + i] === code)) return from + at;
  }
  return -1;
}

// Bytes of an ID3 tag in front of MPEG audio or FLAC.
function tagLength(bytes) {
  if (find(bytes, "ID3", 0, 3) !== 0) return 0;
  const [a, b, c, d] = bytes.subarray(6, 10);
  return 10 + ((a & 127) << 21) + ((b & 127) << 14) + ((c & 127) << 7) + (d & 127);
}

// {rateHz, bits}: bits of lossless samples, 0 otherwise.
function describe(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isWav(bytes) && bytes.length > 28) return { rateHz: view.getUint32(24, true), bits: 0 };
  const start = tagLength(bytes);
  if (find(bytes, "fLaC", start, start + 4) === start && bytes.length > start + 26) {
    const packed = view.getUint32(start + 18); // 20 bits of rate, 3 of channels, 5 of bits, 4 of others
    return { rateHz: packed >>> 12, bits: ((packed >>> 4) & 31) + 1 };
  }
  if (find(bytes, "OggS", 0, 4) === 0) {
    const vorbis = find(bytes, "\x01vorbis", 0, Math.min(bytes.length, 300));
    const rateHz = vorbis >= 0 && bytes.length > vorbis + 16 ? view.getUint32(vorbis + 12, true) : UNKNOWN_RATE_HZ;
    return { rateHz, bits: 0 }; // Opus is always decoded at 48 kHz
  }
  for (let at = start; at + 4 < Math.min(bytes.length, start + 4096); at++) {
    const version = (bytes[at + 1] >> 3) & 3, rate = (bytes[at + 2] >> 2) & 3;
    const synced = bytes[at] === 0xff && (bytes[at + 1] & 0xe0) === 0xe0;
    if (synced && version !== 1 && rate !== 3 && (bytes[at + 1] & 6) !== 0) {
      return { rateHz: [44100, 48000, 32000][rate] / { 3: 1, 2: 2, 0: 4 }[version], bits: 0 };
    }
    if (find(bytes, "ftyp", 4, 8) === 4) break; // MPEG-4, below
  }
  const entry = find(bytes, "mp4a");
  if (entry >= 0 && bytes.length > entry + 32) {
    const rateHz = view.getUint16(entry + 28);
    if (rateHz) return { rateHz, bits: 0 };
  }
  return { rateHz: UNKNOWN_RATE_HZ, bits: 0 };
}

// Bytes -> {rateHz, channels, bits, note} for the worker.
async function decodeInBrowser(bytes, name) {
  let { rateHz, bits } = describe(bytes);
  let note = "decoded by the browser";
  let context;
  try {
    context = new OfflineAudioContext(1, 1, rateHz);
  } catch {
    context = new OfflineAudioContext(1, 1, UNKNOWN_RATE_HZ);
    note += `, which resampled it from ${rateHz} Hz`;
    bits = 0;
  }
  let audio;
  try {
    audio = await context.decodeAudioData(bytes.slice().buffer);
  } catch {
    throw new PageError(
      `${name} cannot be decoded by this browser.`,
      "Check that it is audio; WAV is read everywhere: ffmpeg -i FILE FILE.wav",
    );
  }
  const channels = Array.from({ length: audio.numberOfChannels }, (_, i) => audio.getChannelData(i).slice());
  return { rateHz: audio.sampleRate, channels, bits, note };
}
