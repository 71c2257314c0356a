// The score over time as SVG: one mark for each window, at its middle.

const SVG = "http://www.w3.org/2000/svg";
const SIZE = { height: 260, left: 44, right: 14, top: 16, bottom: 26 };

function drawn(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

// About n round numbers that cover [low, high].
function ticks(low, high, n) {
  const rough = (high - low) / n, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return found;
}

const short = (value) => String(Number(value.toPrecision(6)));

// rows: [{startS, endS, score}]; threshold: {name, value} or null; fromS..toS: what is shown.
function drawChart(svg, rows, threshold, fromS, toS) {
  svg.replaceChildren();
  const width = Math.max(280, svg.clientWidth); // in its own pixels, so that letters keep their size
  svg.setAttribute("viewBox", `0 0 ${width} ${SIZE.height}`);
  const shown = rows.filter((row) => row.endS > fromS);
  if (!shown.length) return;
  const scores = shown.map((row) => row.score);
  if (threshold) scores.push(threshold.value);
  let low = Math.min(...scores), high = Math.max(...scores);
  const room = Math.max(0.5, (high - low) * 0.08);
  low -= room;
  high += room;
  const x = (s) => SIZE.left + ((s - fromS) / (toS - fromS)) * (width - SIZE.left - SIZE.right);
  const y = (v) => SIZE.top + ((high - v) / (high - low)) * (SIZE.height - SIZE.top - SIZE.bottom);
  const right = width - SIZE.right, floor = SIZE.height - SIZE.bottom;
  for (const value of ticks(low, high, 5)) {
    drawn(svg, "line", { class: "grid", x1: SIZE.left, x2: right, y1: y(value), y2: y(value) });
    drawn(svg, "text", { class: "tick", x: SIZE.left - 8, y: y(value) + 4, "text-anchor": "end" }, short(value));
  }
  for (const second of ticks(fromS, toS, width / 90)) {
    drawn(svg, "line", { class: "grid", x1: x(second), x2: x(second), y1: floor, y2: floor + 5 });
    drawn(svg, "text", { class: "tick", x: x(second), y: floor + 18, "text-anchor": "middle" }, short(second));
  }
  if (threshold) {
    drawn(svg, "line", { class: "threshold", x1: SIZE.left, x2: right, y1: y(threshold.value), y2: y(threshold.value) });
  }
  const points = shown.map((row) => [x((row.startS + row.endS) / 2), y(row.score), row]);
  if (points.length > 1) {
    drawn(svg, "polyline", { class: "course", points: points.map(([px, py]) => `${px},${py}`).join(" ") });
  }
  for (const [px, py, row] of points) {
    const below = threshold && row.score < threshold.value;
    const mark = drawn(svg, "circle", { class: below ? "mark below" : "mark", cx: px, cy: py, r: points.length > 150 ? 2 : 4 });
    drawn(mark, "title", {}, `${row.startS.toFixed(2)} to ${row.endS.toFixed(2)} s: ${row.score.toFixed(4)}`);
  }
  if (threshold) {
    drawn(svg, "text", { class: "threshold-name", x: right, y: y(threshold.value) - 5, "text-anchor": "end" }, `threshold ${short(threshold.value)}`);
  }
  const words = `Score over time, ${shown.length} windows: lowest ${short(Math.min(...shown.map((r) => r.score)))}, highest ${short(Math.max(...shown.map((r) => r.score)))}.`;
  svg.setAttribute("aria-label", words);
}
