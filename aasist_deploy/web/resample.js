// One sample rate to another with a windowed sinc, which follows the filter that Python resamples
// with (soxr's "HQ"): the three numbers are a Kaiser window's fit to its impulse response from 48 to
// 16 kHz, which it meets within 3e-6 of a gain of 1. docs/web.md says how close scores come.

const CUTOFF = 0.95688; // where the gain is one half, as a part of the slower rate's Nyquist frequency
const HALF_WIDTH = 93.833; // samples of the slower rate on either side
const KAISER_BETA = 12.25;
const MAX_PHASES = 2048; // of a sample of the slower rate; beyond it, neighbouring phases are interpolated

// Modified Bessel function of the first kind, order 0, by its power series.
function besselI0(x) {
  let sum = 1, term = 1;
  for (let k = 1; term > sum * 1e-17; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a, b) {
  return b ? greatestCommonDivisor(b, a % b) : a;
}

// Output sample n lies at n * fromHz / toHz input samples. Streams: push() gives what is complete.
class Resampler {
  constructor(fromHz, toHz) {
    const divisor = greatestCommonDivisor(fromHz, toHz);
    this.up = toHz / divisor;
    this.down = fromHz / divisor;
    const slower = Math.min(1, toHz / fromHz); // Nyquist of the slower rate, of the input's
    const half = HALF_WIDTH / slower;
    this.reach = Math.ceil(half);
    this.taps = 2 * this.reach + 1;
    // As fine as the filter is wide: a file that claims 1,535,999 Hz takes no larger table than one of 47,999 Hz.
    this.phases = Math.min(this.up, Math.ceil(MAX_PHASES * slower));
    const cutoff = CUTOFF * slower, scale = 1 / besselI0(KAISER_BETA);
    const tap = (distance) => {
      const x = distance / half;
      if (Math.abs(x) >= 1) return 0;
      const angle = Math.PI * cutoff * distance;
      const sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
      return cutoff * sinc * besselI0(KAISER_BETA * Math.sqrt(1 - x * x)) * scale;
    };
    // One phase more, so that the last one has a neighbour to be interpolated with.
    this.table = new Float64Array((this.phases + 1) * this.taps);
    for (let phase = 0; phase <= this.phases; phase++) {
      for (let i = 0; i < this.taps; i++) {
        this.table[phase * this.taps + i] = tap(i - this.reach - phase / this.phases);
      }
    }
    this.held = new Float32Array(this.reach); // zeros before the first sample
    this.heldFrom = -this.reach; // place of held[0] in the input
    this.nRead = 0;
    this.nOut = 0;
  }

  push(samples) {
    return this.advance(samples, false);
  }

  // The rest, with zeros behind the last sample.
  finish() {
    return this.advance(new Float32Array(this.reach + 1), true);
  }

  advance(samples, last) {
    const held = new Float32Array(this.held.length + samples.length);
    held.set(this.held);
    held.set(samples, this.held.length);
    if (!last) this.nRead += samples.length;
    const end = this.heldFrom + held.length;
    // Whole samples that lie before the end of what is known, or of the input.
    const most = last
      ? Math.round((this.nRead * this.up) / this.down)
      : Math.max(this.nOut, Math.ceil(((end - this.reach - 1) * this.up) / this.down));
    const out = new Float32Array(Math.max(0, most - this.nOut));
    const { table, taps } = this;
    for (let i = 0; i < out.length; i++) {
      const place = (this.nOut + i) * this.down;
      const whole = Math.floor(place / this.up), part = place - whole * this.up;
      const exact = (part * this.phases) / this.up;
      const phase = Math.floor(exact), rest = exact - phase;
      const first = whole - this.reach - this.heldFrom, row = phase * taps;
      let sum = 0;
      if (rest === 0) {
        for (let k = 0; k < taps; k++) sum += table[row + k] * held[first + k];
      } else {
        for (let k = 0; k < taps; k++) {
          const weight = table[row + k] + rest * (table[row + taps + k] - table[row + k]);
          sum += weight * held[first + k];
        }
      }
      out[i] = sum;
    }
    this.nOut += out.length;
    const needed = Math.floor((this.nOut * this.down) / this.up) - this.reach;
    const drop = Math.min(held.length, Math.max(0, needed - this.heldFrom));
    this.held = held.slice(drop);
    this.heldFrom += drop;
    return out;
  }
}

function resampled(samples, fromHz, toHz) {
  if (fromHz === toHz) return samples;
  const resampler = new Resampler(fromHz, toHz);
  const start = resampler.push(samples), end = resampler.finish();
  const all = new Float32Array(start.length + end.length);
  all.set(start);
  all.set(end, start.length);
  return all;
}
