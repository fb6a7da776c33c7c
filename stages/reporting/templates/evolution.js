"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const checkpoints = content.epochs.length, images = content.images;
const epochNames = content.epochs.map((epoch) => (epoch === 0 ? "before pretraining" : `epoch ${epoch}`));
const byId = (id) => document.getElementById(id);
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;

function decode(text, Type) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Type(bytes.buffer);
}
const layouts = decode(content.layouts, Int16Array);
const neighbours = decode(content.neighbours, Uint32Array);
const correlations = decode(content.correlations.values, Int8Array);
const neighbourCount = neighbours.length / checkpoints / images;
const coordinate = (checkpoint, image, axis) => layouts[(checkpoint * images + image) * 2 + axis] / 32767;

const members = content.classes.map(() => []);
content.labels.forEach((label, image) => members[label].push(image));
const shown = content.classes.map(() => true);

/* State: a position between 0 and checkpoints - 1 (fractions while points move), and the checkpoint nearest to it. */
let position = 0, current = -1, playing = false, chosen = null;

/* Map of the images */
const markerPaths = {
  circle: "M6.5 1a5.5 5.5 0 1 0 .01 0z",
  square: "M1.5 1.5h10v10h-10z",
  diamond: "M6.5 0l6 6.5-6 6.5-6-6.5z",
  "triangle-up": "M6.5 1l6 11h-12z",
  "triangle-down": "M.5 1h12l-6 11z",
  cross: "M4.5 1h4v3.5H12v4H8.5V12h-4V8.5H1v-4h3.5z",
  star: "M6.5 0l2 4.4 4.5.5-3.4 3 1 4.8-4.1-2.4-4.1 2.4 1-4.8L0 4.9l4.5-.5z",
  x: "M3.3.5l3.2 3.2L9.7.5l2.8 2.8-3.2 3.2 3.2 3.2-2.8 2.8-3.2-3.2-3.2 3.2L.5 9.7l3.2-3.2L.5 3.3z",
  pentagon: "M6.5.5l6 4.4-2.3 7H2.8l-2.3-7z",
  hexagon: "M6.5 0l5.6 3.2v6.5L6.5 13 .9 9.7V3.2z",
};
const canvas = byId("map"), pen = canvas.getContext("2d");
const markers = content.classes.map((info) => new Path2D(markerPaths[info.symbol]));
const size = images > 3000 ? 6 : images > 600 ? 8 : 11;
const across = new Float32Array(images), down = new Float32Array(images);

function placePoints() {
  const width = canvas.clientWidth, height = canvas.clientHeight, radius = Math.min(width, height) / 2 - size;
  const before = Math.floor(position), after = Math.min(before + 1, checkpoints - 1);
  const part = position - before, share = part * part * (3 - 2 * part);
  for (let image = 0; image < images; image++) {
    const x = (1 - share) * coordinate(before, image, 0) + share * coordinate(after, image, 0);
    const y = (1 - share) * coordinate(before, image, 1) + share * coordinate(after, image, 1);
    across[image] = width / 2 + radius * x;
    down[image] = height / 2 - radius * y;
  }
}

function drawMap() {
  const dense = devicePixelRatio || 1, scale = size / 13;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * dense));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  placePoints();
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, width, height);

  pen.globalAlpha = .85;
  members.forEach((list, label) => {
    if (!shown[label]) return;
    pen.fillStyle = content.classes[label].colour;
    for (const image of list) {
      const left = dense * (across[image] - size / 2), top = dense * (down[image] - size / 2);
      pen.setTransform(dense * scale, 0, 0, dense * scale, left, top);
      pen.fill(markers[label]);
    }
  });

  // The chosen image and its neighbours are circled.
  pen.globalAlpha = 1;
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  if (chosen !== null) [chosen, ...neighboursOf(chosen)].forEach((image, place) => {
    if (!shown[content.labels[image]]) return;
    pen.lineWidth = place ? 1.5 : 3;
    pen.beginPath();
    pen.arc(across[image], down[image], size * (place ? .9 : 1.2), 0, 2 * Math.PI);
    pen.stroke();
  });
}

function imageAt(event) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let best = null, least = 14 ** 2;
  for (let image = 0; image < images; image++) {
    const distance = (across[image] - x) ** 2 + (down[image] - y) ** 2;
    if (distance < least && shown[content.labels[image]]) [best, least] = [image, distance];
  }
  return best;
}

function hover(event) {
  const box = byId("hover"), image = imageAt(event);
  canvas.style.cursor = image === null ? "" : "pointer";
  if (image === null) return void (box.style.display = "none");
  const caption = document.createElement("div");
  caption.textContent = `${className(image)} (${imageName(image)})`;
  box.replaceChildren(tile(image, 96 / content.sprite.tile), caption);
  box.style.display = "block";
  box.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - box.offsetHeight - 8))}px`;
}

/* Charts of the metrics */
const plotOptions = { displayModeBar: false, responsive: true };
const font = { family: "system-ui, Segoe UI, DejaVu Sans, sans-serif", size: 12, color: "#1d2330" };
const known = (line) => line.values.some((value) => value !== null);
const curves = content.curves
  .map((curve) => ({ ...curve, lines: curve.lines.filter(known) }))
  .filter((curve) => curve.lines.length);
const lineStyles = [
  { colour: "#0072b2", dash: "solid", sample: "━", marker: "circle" },
  { colour: "#d55e00", dash: "dot", sample: "┄", marker: "diamond" },
];

function chartTitle(curve, separator) {
  const title = `<b>${curve.title}</b>`;
  if (curve.lines.length < 2) return title;
  const key = (line, i) => `<span style="color:${lineStyles[i].colour}">${lineStyles[i].sample} ${line.name}</span>`;
  return title + separator + curve.lines.map(key).join("  ");
}

function chartsFigure() {
  const narrow = byId("charts").clientWidth < 480;
  const gap = (narrow ? .42 : .3) / curves.length, height = (1 - gap * (curves.length - 1)) / curves.length;
  const places = epochNames.map((_, place) => place);
  const layout = {
    margin: { l: 48, r: 12, t: narrow ? 44 : 26, b: 44 }, font, showlegend: false, annotations: [],
    hovermode: "closest",
    xaxis: { tickvals: places, ticktext: content.epochs.map(String), title: { text: "epoch" }, zeroline: false,
      range: [-.25, checkpoints - .75], fixedrange: true, anchor: `y${curves.length > 1 ? curves.length : ""}` },
  };
  const traces = [];

  curves.forEach((curve, row) => {
    const id = row ? row + 1 : "", top = 1 - row * (height + gap);
    layout[`yaxis${id}`] = { domain: [Math.max(0, top - height), top], fixedrange: true, nticks: 4, rangemode: "normal",
      tickformat: row === 0 ? ".0%" : "" };
    layout.annotations.push({ text: chartTitle(curve, narrow ? "<br>" : "   "), x: 0, y: top, xref: "paper",
      yref: "paper", xanchor: "left", yanchor: "bottom", align: "left", showarrow: false });
    curve.lines.forEach((line, i) => traces.push({
      x: places, y: line.values, yaxis: `y${id}`, mode: "lines+markers",
      line: { color: lineStyles[i].colour, dash: lineStyles[i].dash },
      marker: { symbol: lineStyles[i].marker, size: 6 },
      text: epochNames, hovertemplate: `%{text}: %{y:.3~f}<extra>${line.name}</extra>`,
    }));
  });
  return [traces, layout];
}

const cursor = (checkpoint) => curves.map((_, row) => ({
  type: "line", x0: checkpoint, x1: checkpoint, y0: 0, y1: 1, xref: "x", yref: `y${row ? row + 1 : ""} domain`,
  line: { color: "#5b6475", width: 2, dash: "dash" },
}));

/* Cross-correlation matrix */
function correlation(checkpoint) {
  const d = content.correlations.size;
  const row = (number) => correlations.subarray((checkpoint * d + number) * d, (checkpoint * d + number + 1) * d);
  return Array.from({ length: d }, (_, number) => Array.from(row(number), (value) => value / 127));
}

function matrixFigure() {
  const axis = (view) => ({ title: { text: `dimension, view ${view}` }, constrain: "domain", fixedrange: true });
  const trace = {
    type: "heatmap", z: correlation(0), zmin: -1, zmax: 1,
    colorscale: [[0, "#d55e00"], [.5, "#ffffff"], [1, "#0072b2"]],
    colorbar: { thickness: 12, title: { text: "correlation", side: "right" } },
    hovertemplate: "view 1, dimension %{y}<br>view 2, dimension %{x}<br>%{z:.2f}<extra></extra>",
  };
  const layout = {
    margin: { l: 44, r: 4, t: 4, b: 40 }, font, xaxis: axis(2),
    yaxis: { ...axis(1), autorange: "reversed", scaleanchor: "x" },
  };
  return [[trace], layout];
}

/* Chosen image and its nearest neighbours */
function tile(image, scale = 1) {
  const { columns, rows, tile } = content.sprite, side = tile * scale, div = document.createElement("div");
  div.className = "tile";
  Object.assign(div.style, {
    width: `${side}px`, height: `${side}px`, backgroundSize: `${columns * side}px ${rows * side}px`,
    backgroundPosition: `${-(image % columns) * side}px ${-Math.floor(image / columns) * side}px`,
  });
  return div;
}

const className = (image) => content.classes[content.labels[image]].name;
const imageName = (image) => content.files ? content.files[image] : `image ${image}`;
const sameClass = (image, other) => content.labels[image] === content.labels[other];
function neighboursOf(image) {
  const start = (current * images + image) * neighbourCount;
  return Array.from(neighbours.subarray(start, start + neighbourCount));
}

function showChosen() {
  if (chosen === null) return;
  const same = neighboursOf(chosen).filter((image) => sameClass(image, chosen)).length;
  byId("chosen-title").textContent =
    `Nearest neighbours of ${imageName(chosen)} (${className(chosen)}), ${epochNames[current]}: ` +
    `${same} of ${neighbourCount} of the same class`;
  byId("chosen").replaceChildren(...[chosen, ...neighboursOf(chosen)].map((image, place) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const thumbnail = tile(image, 64 / content.sprite.tile);
    thumbnail.classList.add(sameClass(image, chosen) ? "same" : "other");
    caption.textContent = place ? className(image) : `chosen: ${className(image)}`;
    figure.title = imageName(image);
    figure.append(thumbnail, caption);
    return figure;
  }));
}

const hint = byId("chosen").firstElementChild;
function choose(image) {
  chosen = image;
  if (image === null) {
    byId("chosen-title").textContent = "Nearest neighbours";
    byId("chosen").replaceChildren(hint);
  }
  showChosen();
  drawMap();
}

/* Moving between checkpoints */
function goTo(target) {
  position = Math.max(0, Math.min(checkpoints - 1, target));
  byId("time").value = position;
  const nearest = Math.round(position), changed = nearest !== current;
  current = nearest;

  const before = Math.floor(position), after = Math.min(before + 1, checkpoints - 1);
  const between = position - before > .02 && position - before < .98;
  const name = between ? `${epochNames[before]} → ${epochNames[after]}` : epochNames[nearest];
  if (byId("moment").textContent !== name) byId("moment").textContent = name;
  byId("time").setAttribute("aria-valuetext", name);

  drawMap();
  if (changed) {
    showChosen();
    Plotly.relayout("charts", { shapes: cursor(nearest) });
    Plotly.restyle("matrix", { z: [correlation(nearest)] });
  }
}

let frame = 0, pause = 0, goal = null;
function stopMoving() {
  goal = null;
  cancelAnimationFrame(frame);
  clearTimeout(pause);
}

function glide(target, seconds, done = () => {}) {
  stopMoving();
  goal = target;
  if (reducedMotion) { goTo(target); pause = setTimeout(done, 700); return; }
  const from = position, began = performance.now();
  const advance = (time) => {
    const share = Math.min(1, Math.max(0, time - began) / (seconds * 1000));
    goTo(from + (target - from) * share);
    if (share < 1) return void (frame = requestAnimationFrame(advance));
    goal = null;
    done();
  };
  frame = requestAnimationFrame(advance);
}

function step(target) {
  play(false);
  glide(target, .8);
}

function play(on) {
  playing = on;
  byId("play").textContent = on ? "Pause" : "Play";
  if (!on) return stopMoving();
  if (position >= checkpoints - 1) goTo(0);
  const next = () => {
    if (!playing) return;
    if (position >= checkpoints - 1) return play(false);
    glide(Math.floor(position) + 1, 1.2, () => (pause = setTimeout(next, 250)));
  };
  next();
}

/* Legend of the classes, which filters the map */
function markerIcon(info) {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg"), path = document.createElementNS(namespace, "path");
  svg.setAttribute("viewBox", "0 0 13 13");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", markerPaths[info.symbol]);
  path.setAttribute("fill", info.colour);
  svg.append(path);
  return svg;
}

function legend() {
  content.classes.forEach((info, label) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.title = "Click to hide or show; double-click to show only this class";
    button.append(markerIcon(info), info.name);
    button.onclick = () => show(shown.map((on, other) => (other === label ? !on : on)));
    button.ondblclick = () => show(shown.map((_, other) => other === label));
    byId("legend").append(button);
  });
  const all = document.createElement("button");
  all.type = "button";
  all.textContent = "show all";
  all.onclick = () => show(shown.map(() => true));
  byId("legend").append(all);
}

function show(selection) {
  selection.forEach((on, label) => {
    shown[label] = on;
    byId("legend").children[label].setAttribute("aria-pressed", on);
  });
  drawMap();
}

/* Start */
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const from = goal ?? position;
  const keys = {
    " ": () => event.target.tagName !== "BUTTON" && (play(!playing), true),
    ArrowRight: () => (step(Math.min(Math.floor(from + 1e-6) + 1, checkpoints - 1)), true),
    ArrowLeft: () => (step(Math.max(Math.ceil(from - 1e-6) - 1, 0)), true),
    n: () => (choose(chosen === null ? 0 : (chosen + 1) % images), true),
    p: () => (choose(chosen === null ? 0 : (chosen + images - 1) % images), true),
    Escape: () => (choose(null), true),
  };
  if (keys[event.key]?.()) event.preventDefault();
}

async function start() {
  legend();
  current = 0;
  await Promise.all([
    Plotly.newPlot("charts", ...chartsFigure(), plotOptions),
    Plotly.newPlot("matrix", ...matrixFigure(), plotOptions),
  ]);
  canvas.onpointermove = hover;
  canvas.onpointerleave = () => (byId("hover").style.display = "none");
  canvas.onclick = (event) => choose(imageAt(event));
  new ResizeObserver(drawMap).observe(canvas);
  byId("play").onclick = () => play(!playing);
  byId("time").oninput = (event) => { play(false); goTo(Number(event.target.value)); };
  addEventListener("keydown", onKey);
  if (checkpoints < 2) byId("play").disabled = byId("time").disabled = true;
  goTo(0);
  Plotly.relayout("charts", { shapes: cursor(0) });
  document.body.dataset.ready = "yes";
}
start();
