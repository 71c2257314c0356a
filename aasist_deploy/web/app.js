// The page: what a person does, and what the worker says.

const byId = (id) => document.getElementById(id);
const manifest = JSON.parse(byId("manifest").textContent);
const LIVE_SHOWN_S = 60;
const LIVE_ROWS_KEPT = 5000;

let worker = null;
let contract = null;
let job = 0;
let rows = []; // windows of the course
let fileRow = null; // the row that is the file's score
let audio = null; // what the worker said of the file
let microphone = null;
let chosenFile = null;
let liveSeconds = 0;

function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent?.append(made);
  return made;
}

const say = (text) => (byId("status").textContent = text);

function showError(message, fix = "") {
  const box = byId("error");
  box.replaceChildren();
  element("strong", message, box);
  if (fix) element("span", fix, box);
  box.hidden = false;
}

const clearError = () => (byId("error").hidden = true);

// A number with as many digits as a person can use; the CSV has them all.
const digits = (value) => value.toFixed(4).replace("-", "−");

function chosenThreshold() {
  const name = byId("threshold").value;
  return name && name in contract.thresholds ? { name, value: contract.thresholds[name] } : null;
}

function tellModel() {
  const rate = contract.sample_rate_hz;
  const seconds = (n) => `${n} samples (${(n / rate).toFixed(2)} s)`;
  const takes =
    contract.n_samples !== null
      ? `${seconds(contract.n_samples)} at ${rate} Hz; shorter clips are repeated, never padded with silence`
      : `whole clips of ${seconds(contract.min_samples)} or more at ${rate} Hz; shorter ones are repeated`;
  const about = [
    ["Network", contract.architecture],
    ["Takes", takes],
    ["Score", `${contract.score}; higher means more likely bona fide`],
    ["Arithmetic", contract.precision],
    ["Weights, SHA-256", contract.checkpoint_sha256],
    ["Model file, SHA-256", `${manifest.model.sha256} (checked)`],
    ["Runtime", `${manifest.runtime.name} ${manifest.runtime.version} in WebAssembly, one thread (checked)`],
    ["Written by", Object.entries(contract.tools).map(([tool, version]) => `${tool} ${version}`).join(", ")],
  ];
  const list = byId("about");
  for (const [term, text] of about) {
    element("dt", term, list);
    element("dd", text || "not said", list);
  }
  const caveats = [
    "A score is a hint, not proof. Recordings unlike the model's training data (other microphones, codecs, rooms, languages, newer " +
      "generators) are judged wrong far more often: the published AASIST weights have an equal error rate of 0.8 % on ASVspoof 2019 LA, " +
      "which they were trained for, and of 43 % on In-the-Wild.",
    "Scores move with loudness, trimmed silence and lossy compression. Nothing is normalised here; use the original recording.",
    "Music, noise and silence get scores too, and those mean nothing.",
  ];
  if (contract.calibration) {
    const { n_bonafide: good, n_spoof: bad } = contract.calibration;
    const on = good && bad ? `, fitted on ${good} bona fide and ${bad} spoofed trials` : "";
    caveats.push(`The probability holds for recordings like those of the calibration${on}, and when half of what you test is spoofed.`);
  } else {
    caveats.push("This model is not calibrated: its score orders recordings, and is no probability.");
  }
  if (!Object.keys(contract.thresholds).length) {
    caveats.push("It has no threshold: choose one on labelled recordings of your own before you decide anything by a score.");
  }
  if (contract.precision !== "fp32" && !contract.gate) {
    caveats.push(`It computes in ${contract.precision}, and was not checked against fp32.`);
  }
  for (const text of caveats) element("li", text, byId("caveats"));
  const names = Object.keys(contract.thresholds);
  if (names.length) {
    const select = byId("threshold");
    element("option", "none", select).value = "";
    for (const name of names) element("option", name, select).value = name;
    byId("threshold-label").hidden = false;
  }
  const columns = ["start, s", "end, s", "score"];
  if (contract.calibration) columns.push("llr", "p(spoof)");
  for (const name of columns) element("th", name, byId("columns")).scope = "col";
}

function startResult(source) {
  rows = [];
  fileRow = null;
  audio = null;
  clearError();
  byId("result").hidden = false;
  byId("source").textContent = source;
  byId("progress").value = 0;
  byId("progress").hidden = false;
  byId("notes").replaceChildren();
  byId("body").replaceChildren();
  byId("summary").textContent = byId("meaning").textContent = "";
  byId("figure").hidden = byId("rows").hidden = true;
  for (const id of ["main", "llr", "p", "decision"]) byId(id).textContent = "–";
  delete byId("main").dataset.score;
}

function showNumbers(row) {
  byId("main").textContent = digits(row.score);
  byId("main").dataset.score = row.score;
  byId("llr-box").hidden = byId("p-box").hidden = row.llr === null;
  if (row.llr !== null) {
    byId("llr").textContent = digits(row.llr);
    byId("p").textContent = digits(row.pSpoof);
  }
  const threshold = chosenThreshold();
  byId("decision-box").hidden = !threshold;
  if (threshold) byId("decision").textContent = row.score >= threshold.value ? "bona fide" : "spoof";
}

function tableRow(row) {
  const line = document.createElement("tr");
  const values = [row.startS.toFixed(2), row.endS.toFixed(2), digits(row.score)];
  if (row.llr !== null) values.push(digits(row.llr), digits(row.pSpoof));
  for (const value of values) element("td", value, line);
  byId("body").append(line);
}

let drawing = false;
// At most once a frame, however fast windows come.
function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    const live = microphone !== null || audio === null;
    if (!rows.length || (!live && rows.length < 2)) return;
    byId("figure").hidden = false;
    const end = live ? Math.max(rows.at(-1).endS, liveSeconds) : audio.nSamples / contract.sample_rate_hz;
    const from = live ? Math.max(0, end - LIVE_SHOWN_S) : 0;
    drawChart(byId("chart"), rows, chosenThreshold(), from, live ? Math.max(end, from + 5) : end);
    summarise();
  });
}

function summarise() {
  if (rows.length < 2) return;
  const scores = rows.map((row) => row.score);
  const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
  byId("summary").textContent =
    `${rows.length} windows: mean ${digits(mean)}, lowest ${digits(Math.min(...scores))}, ` +
    `highest ${digits(Math.max(...scores))}. Neighbouring windows overlap and are no independent evidence.`;
}

function addRow(row) {
  rows.push(row);
  tableRow(row);
  byId("rows").hidden = rows.length < 2;
  if (rows.length > LIVE_ROWS_KEPT) {
    rows.shift();
    byId("body").firstChild.remove();
  }
  redraw();
}

function note(text) {
  element("li", text, byId("notes"));
}

const heard = {
  stage: ({ text }) => say(`${text} …`),
  ready: (message) => {
    contract = message.contract;
    tellModel();
    byId("choose").disabled = byId("listen").disabled = false;
    say("Ready.");
    document.documentElement.dataset.state = "ready";
  },
  refused: ({ message, fix }) => {
    say("The model is not used.");
    showError(message, fix);
    document.documentElement.dataset.state = "refused";
  },
  undecoded: async () => scoreChosen({ browserOnly: true }),
  audio: (message) => {
    audio = message;
    const seconds = message.seconds.toFixed(2);
    byId("source").textContent =
      `${chosenFile.name}: ${seconds} s, ${message.rateHz} Hz, ${message.channels} channel${message.channels > 1 ? "s" : ""}` +
      (message.note ? `; ${message.note}` : "");
    if (message.rateHz !== contract.sample_rate_hz) note(`Resampled from ${message.rateHz} to ${contract.sample_rate_hz} Hz.`);
    if (message.channels > 1) note(`The mean of ${message.channels} channels is scored.`);
    if (message.tiled) note("The recording is shorter than the model's window: it is repeated to fill it, as in training.");
    if (message.unscoredS > 0.005) note(`The last ${message.unscoredS.toFixed(2)} s fill no further window and are in no row of their own.`);
  },
  window: ({ row, isFile, inCourse, done, total }) => {
    byId("progress").value = done / total;
    if (total > 1) say(`Window ${done} of ${total}, ${(row.ms / 1000).toFixed(2)} s each`);
    if (row.silent) note(`${row.startS.toFixed(2)} to ${row.endS.toFixed(2)} s is digital silence; its score means nothing.`);
    if (isFile) {
      fileRow = row;
      showNumbers(row);
      const what = contract.n_samples === null ? "the whole recording" : `the first ${row.endS.toFixed(2)} s`;
      byId("meaning").textContent =
        `${contract.score[0].toUpperCase()}${contract.score.slice(1)} of ${what}: what aasist-deploy score gives. Higher means more likely bona fide.`;
    }
    if (inCourse) addRow(row);
  },
  done: () => {
    byId("progress").hidden = true;
    byId("stop").hidden = true;
    say("Done.");
    document.documentElement.dataset.state = "done";
  },
  error: ({ message, fix }) => {
    endMicrophone();
    byId("progress").hidden = true;
    byId("stop").hidden = true;
    if (!rows.length && !fileRow) byId("result").hidden = true;
    say("Ready for another file.");
    showError(message, fix);
    document.documentElement.dataset.state = "error";
  },
  heard: ({ seconds, missing }) => {
    liveSeconds = seconds;
    if (missing > 0) say(`Listening: a window is full in ${missing.toFixed(1)} s`);
    else if (!rows.length) say("Listening: scoring the first window");
  },
  "live-window": ({ row, nSkipped }) => {
    showNumbers(row);
    byId("meaning").textContent = `Score of the last ${(row.endS - row.startS).toFixed(2)} s. Higher means more likely bona fide.`;
    say(`Listening, ${row.endS.toFixed(0)} s`);
    byId("notes").replaceChildren();
    if (nSkipped) note(`This machine needs ${(row.ms / 1000).toFixed(1)} s for a window; left out so far: ${nSkipped}.`);
    if (row.silent) note("The microphone gives digital silence; the score means nothing.");
    addRow(row);
  },
};

// Reads and scores the chosen file again, for instance at another hop.
async function scoreChosen({ browserOnly = false } = {}) {
  endMicrophone();
  const id = ++job;
  document.documentElement.dataset.state = "scoring";
  startResult(chosenFile.name);
  byId("stop").hidden = false;
  say("Reading the file …");
  const hopS = Number(byId("hop").value);
  try {
    let bytes;
    try {
      bytes = new Uint8Array(await chosenFile.arrayBuffer());
    } catch {
      throw new PageError(`${chosenFile.name} cannot be read.`, "Choose it again; folders cannot be scored.");
    }
    if (!bytes.length) throw new PageError(`${chosenFile.name} is empty (0 bytes).`, "Choose another file.");
    if (isWav(bytes) && !browserOnly) {
      worker.postMessage({ kind: "score", id, hopS, file: { bytes: bytes.buffer } }, [bytes.buffer]);
      return;
    }
    const file = await decodeInBrowser(bytes, chosenFile.name);
    if (id !== job) return;
    worker.postMessage({ kind: "score", id, hopS, file }, file.channels.map((samples) => samples.buffer));
  } catch (error) {
    if (id !== job) return;
    heard.error(error instanceof PageError ? error : { message: `The file cannot be read: ${error.message}` });
  }
}

function chooseFile(files) {
  if (!contract || !files.length) return;
  [chosenFile] = files;
  scoreChosen();
}

function stopFile() {
  job++;
  worker.postMessage({ kind: "stop" });
  byId("stop").hidden = byId("progress").hidden = true;
  say("Stopped.");
}

async function startMicrophone() {
  const id = ++job;
  clearError();
  say("Asking for the microphone …");
  try {
    const opened = await openMicrophone(
      (samples) => worker.postMessage({ kind: "samples", id, samples }, [samples.buffer]),
      () => heard.error({ message: "The microphone was disconnected.", fix: "What was scored before stays below." }),
    );
    if (id !== job) return opened.stop();
    microphone = opened;
    chosenFile = null;
    liveSeconds = 0;
    startResult(`Microphone at ${opened.rateHz} Hz; echo cancelling, noise suppression and gain control are off where the browser can.`);
    byId("progress").hidden = true;
    worker.postMessage({ kind: "live", id, rateHz: opened.rateHz, hopS: Number(byId("hop").value) });
    byId("listen").textContent = "Stop listening";
    byId("listen").setAttribute("aria-pressed", "true");
    document.documentElement.dataset.state = "listening";
  } catch (error) {
    heard.error(error instanceof PageError ? error : { message: `The microphone failed: ${error.message}` });
  }
}

function endMicrophone() {
  if (!microphone) return;
  microphone.stop();
  microphone = null;
  worker.postMessage({ kind: "live-stop" });
  byId("listen").textContent = "Use the microphone";
  byId("listen").setAttribute("aria-pressed", "false");
  say("Stopped listening.");
}

function saveCsv() {
  const names = ["start_s", "end_s", "score"];
  if (contract.calibration) names.push("llr", "p_spoof");
  const lines = rows.map((row) => [row.startS, row.endS, row.score, row.llr, row.pSpoof].slice(0, names.length).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([[names.join(","), ...lines, ""].join("\n")], { type: "text/csv" }));
  link.download = `${chosenFile ? chosenFile.name : "microphone"}.scores.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function wire() {
  const drop = byId("drop");
  byId("choose").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", ({ target }) => {
    chooseFile(target.files);
    target.value = ""; // so that the same file can be chosen again
  });
  byId("listen").addEventListener("click", () => (microphone ? endMicrophone() : startMicrophone()));
  byId("stop").addEventListener("click", stopFile);
  byId("save").addEventListener("click", saveCsv);
  byId("hop").addEventListener("change", () => (microphone ? startMicrophoneAgain() : chosenFile && scoreChosen()));
  byId("threshold").addEventListener("change", () => {
    const row = fileRow ?? rows.at(-1);
    if (row) showNumbers(row);
    redraw();
  });
  for (const name of ["dragover", "dragleave", "drop"]) {
    addEventListener(name, (event) => {
      event.preventDefault(); // a browser would open the file in place of the page
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") chooseFile(event.dataTransfer.files);
    });
  }
}

addEventListener("resize", () => rows.length && redraw());

function startMicrophoneAgain() {
  endMicrophone();
  startMicrophone();
}

function start() {
  const missing = ["Worker", "WebAssembly", "DecompressionStream", "OfflineAudioContext"].filter((name) => !(name in globalThis));
  if (missing.length) {
    heard.refused({ message: `This browser lacks ${missing.join(", ")}.`, fix: "Use a current Chromium, Firefox or Safari." });
    return;
  }
  wire();
  const taken = (id) => {
    const text = byId(id).textContent;
    byId(id).remove(); // megabytes that the page needs no more
    return text;
  };
  worker = new Worker(URL.createObjectURL(new Blob([taken("worker-source")], { type: "text/javascript" })));
  worker.onmessage = ({ data }) => {
    if (data.id !== undefined && data.id !== job) return; // of a file that another one replaced
    heard[data.kind](data);
  };
  worker.onerror = (event) => {
    event.preventDefault();
    heard[contract ? "error" : "refused"]({ message: `Scoring broke off: ${event.message || "the worker could not be started"}.`, fix: "Load the page again." });
  };
  const parts = { model: taken("part-model"), script: taken("part-script"), wasm: taken("part-wasm") };
  worker.postMessage({ kind: "open", parts, manifest });
}

start();
