// The microphone's samples, as they are: echo cancelling, noise suppression and gain control would
// change what the model hears.

const BLOCK = 2048; // samples; a power of two from 256 to 16384
const STARTED_MS = 5000; // within which a browser's audio must run

const WORKLET = `registerProcessor("listener", class extends AudioWorkletProcessor {
  constructor() { super(); this.block = new Float32Array(${BLOCK}); this.n = 0; }
  process(inputs) {
    const heard = inputs[0][0];
    if (!heard) return true;
    for (const sample of heard) {
      this.block[this.n++] = sample;
      if (this.n === this.block.length) { this.port.postMessage(this.block.slice()); this.n = 0; }
    }
    return true;
  }
});`;

async function workletListener(context, onSamples) {
  const address = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
  await context.audioWorklet.addModule(address);
  URL.revokeObjectURL(address);
  const listener = new AudioWorkletNode(context, "listener", {
    numberOfInputs: 1, numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit",
  }); // prettier-ignore
  listener.port.onmessage = ({ data }) => onSamples(data);
  return listener;
}

function olderListener(context, onSamples) {
  const listener = context.createScriptProcessor(BLOCK, 1, 1);
  listener.onaudioprocess = ({ inputBuffer }) => onSamples(inputBuffer.getChannelData(0).slice());
  listener.connect(context.destination); // it runs only when it leads somewhere; it plays nothing
  return listener;
}

// Firefox never ends `resume` on a machine that has no audio output.
function started(context) {
  const late = new Promise((_, refuse) => {
    setTimeout(() => refuse(new Error("the browser did not start its audio, which needs an output too.")), STARTED_MS);
  });
  return Promise.race([context.resume(), late]);
}

// onSamples gets blocks of (BLOCK,) samples at `rateHz`; onEnd is called when the device goes away.
async function openMicrophone(onSamples, onEnd) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new PageError(
      "This browser gives the page no microphone.",
      "Open the page from disk, over https or at localhost, in a current browser.",
    );
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 },
    });
  } catch (error) {
    const reasons = {
      NotAllowedError: ["The microphone was not allowed.", "Allow it in the browser's site settings, then try again."],
      NotFoundError: ["There is no microphone.", "Connect one, then try again."],
      NotReadableError: ["Another program has the microphone.", "Close it, then try again."],
    };
    const [message, fix] = reasons[error.name] ?? [`The microphone cannot be opened: ${error.message}`, ""];
    throw new PageError(message, fix);
  }
  const context = new AudioContext();
  const stop = () => {
    stream.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") context.close();
  };
  try {
    const source = context.createMediaStreamSource(stream);
    // Chromium lets no page from disk load a worklet; there the older node hears as well.
    const listener = globalThis.origin === "null" ? olderListener(context, onSamples) : await workletListener(context, onSamples);
    source.connect(listener);
    await started(context);
  } catch (error) {
    stop();
    throw new PageError(`The microphone cannot be heard: ${error.message ?? error}`);
  }
  stream.getAudioTracks()[0].addEventListener("ended", () => onEnd());
  return { rateHz: context.sampleRate, stop };
}
