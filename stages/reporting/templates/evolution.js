"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const checkpoints = content.epochs.length, images = content.images;
const named = content.epochs.map((epoch) => (epoch === 0 ? "random weights" : `epoch ${epoch}`));
const byId = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

function decode(text, Type) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Type(bytes.buffer);
}
const layouts = decode(content.layouts, Int16Array);
const neighbours = decode(content.neighbours, Uint16Array);
const correlations = decode(content.correlations.values, Int8Array);
const near = neighbours.length / checkpoints / images;
const coordinate = (checkpoint, image, axis) => layouts[(checkpoint * images + image) * 2 + axis] / 32767;

const members = content.classes.map(() => []);
content.labels.forEach((label, image) => members[label].push(image));
const shown = content.classes.map(() => true);
let now = 0, playing = false, chosen = null, drawn = -1;

/* The map */
const gl = !!document.createElement("canvas").getContext("webgl");
const size = images > 3000 ? 4 : images > 600 ? 6 : 9;
const ring = { color: "rgba(0,0,0,0)", size: size + 9, line: { color: "#000", width: 2 } };
const quiet = { displayModeBar: false, responsive: true };
const axis = { range: [-1, 1], showticklabels: false, zeroline: false, showgrid: false, fixedrange: true };
const font = { family: "system-ui, Segoe UI, DejaVu Sans, sans-serif", size: 12, color: "#1d2330" };

function places(list, time) {
  const before = Math.floor(time), after = Math.min(before + 1, checkpoints - 1);
  const part = time - before, share = part * part * (3 - 2 * part);
  return [0, 1].map((axis) => list.map((image) =>
    (1 - share) * coordinate(before, image, axis) + share * coordinate(after, image, axis)));
}

function mapTraces() {
  const points = content.classes.map((kind, label) => {
    const [x, y] = places(members[label], now);
    return { type: gl ? "scattergl" : "scatter", mode: "markers", x, y, hoverinfo: "none", visible: shown[label],
      marker: { color: kind.colour, symbol: kind.symbol, size, opacity: .85 } };
  });
  return [...points, { type: gl ? "scattergl" : "scatter", mode: "markers", x: [], y: [], hoverinfo: "skip", marker: ring }];
}

function ringed() {
  return chosen === null ? [] : [chosen, ...kin(chosen)].filter((image) => shown[content.labels[image]]);
}

function moveMap() {
  const lists = [...members, ringed()], xs = [], ys = [];
  for (const list of lists) {
    const [x, y] = places(list, now);
    xs.push(x); ys.push(y);
  }
  Plotly.restyle("map", { x: xs, y: ys });
}

/* The numbers */
const curves = content.curves.map((curve) => ({ ...curve, lines: curve.lines.filter((line) => line.values.some((v) => v !== null)) }))
  .filter((curve) => curve.lines.length);
const dashes = ["solid", "dot"], inks = ["#0072b2", "#d55e00"];

function chartsFigure() {
  const layout = { margin: { l: 48, r: 12, t: 26, b: 44 }, font, showlegend: false, annotations: [], hovermode: "closest",
    xaxis: { tickvals: named.map((_, i) => i), ticktext: content.epochs.map(String), title: { text: "epoch" }, range: [-.25, checkpoints - .75],
      fixedrange: true, anchor: `y${curves.length > 1 ? curves.length : ""}` } };
  const traces = [], gap = .3 / curves.length, height = (1 - gap * (curves.length - 1)) / curves.length;
  curves.forEach((curve, row) => {
    const id = row ? row + 1 : "", top = 1 - row * (height + gap);
    layout[`yaxis${id}`] = { domain: [Math.max(0, top - height), top], fixedrange: true, nticks: 4, rangemode: "normal",
      tickformat: row === 0 ? ".0%" : "" };
    layout.annotations.push({ text: `<b>${curve.title}</b>` + (curve.lines.length > 1 ? "   " + curve.lines.map((line, i) =>
      `<span style="color:${inks[i]}">${i ? "┄" : "━"} ${line.name}</span>`).join("  ") : ""),
      x: 0, y: top, xref: "paper", yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false });
    curve.lines.forEach((line, i) => traces.push({ x: named.map((_, k) => k), y: line.values, yaxis: `y${id}`, mode: "lines+markers",
      line: { color: inks[i], dash: dashes[i] }, marker: { symbol: i ? "diamond" : "circle", size: 6 },
      text: named, hovertemplate: `%{text}: %{y:.3~f}<extra>${line.name}</extra>` }));
  });
  return [traces, layout];
}

const cursor = (place) => [{ type: "line", x0: place, x1: place, y0: 0, y1: 1, xref: "x", yref: "paper", line: { color: "#5b6475", width: 2, dash: "dash" } }];

function correlation(checkpoint) {
  const d = content.correlations.size;
  return Array.from({ length: d }, (_, row) => Array.from(correlations.subarray((checkpoint * d + row) * d, (checkpoint * d + row + 1) * d), (v) => v / 127));
}

/* Pictures */
function tile(image, scale = 1) {
  const { columns, rows, tile } = content.sprite, side = tile * scale, div = document.createElement("div");
  div.className = "tile";
  Object.assign(div.style, { width: `${side}px`, height: `${side}px`, backgroundSize: `${columns * side}px ${rows * side}px`,
    backgroundPosition: `${-(image % columns) * side}px ${-Math.floor(image / columns) * side}px` });
  return div;
}
const className = (image) => content.classes[content.labels[image]].name;
const kin = (image) => Array.from(neighbours.subarray((drawn * images + image) * near, (drawn * images + image + 1) * near));

function showChosen() {
  if (chosen === null) return;
  const box = byId("chosen"), alike = kin(chosen).filter((image) => content.labels[image] === content.labels[chosen]).length;
  byId("chosen-title").textContent = `Nearest neighbours of image ${chosen} (${className(chosen)}), ${named[drawn]}: ${alike} of ${near} of its class`;
  box.replaceChildren(...[chosen, ...kin(chosen)].map((image, place) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption"), picture = tile(image, 64 / content.sprite.tile);
    picture.classList.add(place && content.labels[image] !== content.labels[chosen] ? "other" : "same");
    caption.textContent = place ? className(image) : `this: ${className(image)}`;
    figure.append(picture, caption);
    return figure;
  }));
}

function choose(image) {
  chosen = image;
  if (image === null) {
    byId("chosen-title").textContent = "Nearest neighbours";
    byId("chosen").replaceChildren();
  }
  showChosen();
  moveMap();
}

/* Time */
function goTo(time) {
  now = Math.max(0, Math.min(checkpoints - 1, time));
  byId("time").value = now;
  const nearest = Math.round(now), changed = nearest !== drawn;
  drawn = nearest;
  const after = Math.min(Math.floor(now) + 1, checkpoints - 1), between = now - Math.floor(now) > .02 && now - Math.floor(now) < .98;
  byId("moment").textContent = between ? `${named[Math.floor(now)]} → ${named[after]}` : named[nearest];
  byId("time").setAttribute("aria-valuetext", byId("moment").textContent);
  moveMap();
  if (changed) {
    showChosen();
    Plotly.relayout("charts", { shapes: cursor(nearest) });
    Plotly.restyle("matrix", { z: [correlation(nearest)] });
  }
}

let frame = 0, pause = 0;
function halt() {
  cancelAnimationFrame(frame);
  clearTimeout(pause);
}
function glide(target, seconds, done = () => {}) {
  halt();
  if (calm) { goTo(target); pause = setTimeout(done, 700); return; }
  const from = now, began = performance.now();
  const step = (time) => {
    const share = Math.min(1, Math.max(0, time - began) / (seconds * 1000));
    goTo(from + (target - from) * share);
    if (share < 1) frame = requestAnimationFrame(step); else done();
  };
  frame = requestAnimationFrame(step);
}

function play(on) {
  playing = on;
  byId("play").textContent = on ? "Pause" : "Play";
  if (!on) return halt();
  if (now >= checkpoints - 1) goTo(0);
  const next = () => {
    if (!playing) return;
    if (now >= checkpoints - 1) return play(false);
    glide(Math.floor(now) + 1, 1.2, () => (pause = setTimeout(next, 250)));
  };
  next();
}

/* Classes */
const shapes = { circle: "M6.5 1a5.5 5.5 0 1 0 .01 0z", square: "M1.5 1.5h10v10h-10z", diamond: "M6.5 0l6 6.5-6 6.5-6-6.5z", "triangle-up": "M6.5 1l6 11h-12z",
  "triangle-down": "M.5 1h12l-6 11z", cross: "M4.5 1h4v3.5H12v4H8.5V12h-4V8.5H1v-4h3.5z", star: "M6.5 0l2 4.4 4.5.5-3.4 3 1 4.8-4.1-2.4-4.1 2.4 1-4.8L0 4.9l4.5-.5z",
  x: "M3.3.5l3.2 3.2L9.7.5l2.8 2.8-3.2 3.2 3.2 3.2-2.8 2.8-3.2-3.2-3.2 3.2L.5 9.7l3.2-3.2L.5 3.3z", pentagon: "M6.5.5l6 4.4-2.3 7H2.8l-2.3-7z", hexagon: "M6.5 0l5.6 3.2v6.5L6.5 13 .9 9.7V3.2z" };

function legend() {
  content.classes.forEach((kind, label) => {
    const button = document.createElement("button"), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.setAttribute("viewBox", "0 0 13 13");
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", shapes[kind.symbol]);
    path.setAttribute("fill", kind.colour);
    svg.append(path);
    button.type = "button";
    button.setAttribute("aria-pressed", "true");
    button.title = "Click to hide or show; double click to show only this class";
    button.append(svg, kind.name);
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

function show(which) {
  which.forEach((on, label) => {
    shown[label] = on;
    byId("legend").children[label].setAttribute("aria-pressed", on);
  });
  Plotly.restyle("map", { visible: which }, which.map((_, label) => label));
  moveMap();
}

/* Start */
const imageOf = (event) => members[event.points[0].curveNumber]?.[event.points[0].pointNumber];

async function start() {
  legend();
  drawn = 0;
  await Promise.all([
    Plotly.newPlot("map", mapTraces(), { margin: { l: 4, r: 4, t: 4, b: 26 }, font, showlegend: false, hovermode: "closest", dragmode: false,
      xaxis: { ...axis, title: { text: "t-SNE, first dimension", standoff: 2 } },
      yaxis: { ...axis, scaleanchor: "x", title: { text: "t-SNE, second dimension", standoff: 2 } } }, quiet),
    Plotly.newPlot("charts", ...chartsFigure(), quiet),
    Plotly.newPlot("matrix", [{ type: "heatmap", z: correlation(0), zmin: -1, zmax: 1, colorscale: [[0, "#d55e00"], [.5, "#ffffff"], [1, "#0072b2"]],
      colorbar: { thickness: 12, title: { text: "correlation", side: "right" } }, hovertemplate: "view 1, dimension %{y}<br>view 2, dimension %{x}<br>%{z:.2f}<extra></extra>" }],
      { margin: { l: 44, r: 4, t: 4, b: 40 }, font, xaxis: { title: { text: "dimension, view 2" }, constrain: "domain", fixedrange: true },
        yaxis: { title: { text: "dimension, view 1" }, autorange: "reversed", scaleanchor: "x", constrain: "domain", fixedrange: true } }, quiet),
  ]);
  const map = byId("map"), hover = byId("hover");
  map.on("plotly_hover", (event) => {
    const image = imageOf(event);
    if (image === undefined) return;
    const caption = document.createElement("div");
    caption.textContent = `${className(image)} (image ${image})`;
    hover.replaceChildren(tile(image, 96 / content.sprite.tile), caption);
    hover.dataset.image = image;
    hover.style.display = "block";
    const { clientX, clientY } = event.event;
    hover.style.left = `${Math.max(4, Math.min(clientX + 14, innerWidth - hover.offsetWidth - 8))}px`;
    hover.style.top = `${Math.max(4, Math.min(clientY + 14, innerHeight - hover.offsetHeight - 8))}px`;
  });
  map.on("plotly_unhover", () => (hover.style.display = "none"));
  map.on("plotly_click", (event) => imageOf(event) !== undefined && choose(imageOf(event)));
  byId("play").onclick = () => play(!playing);
  byId("time").oninput = (event) => { play(false); goTo(Number(event.target.value)); };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      " ": () => event.target.tagName !== "BUTTON" && (play(!playing), true),
      ArrowRight: () => (play(false), glide(Math.min(Math.floor(now + 1e-6) + 1, checkpoints - 1), .8), true),
      ArrowLeft: () => (play(false), glide(Math.max(Math.ceil(now - 1e-6) - 1, 0), .8), true),
      Home: () => (play(false), goTo(0), true),
      End: () => (play(false), goTo(checkpoints - 1), true),
      n: () => (choose(chosen === null ? 0 : (chosen + 1) % images), true),
      p: () => (choose(chosen === null ? 0 : (chosen + images - 1) % images), true),
      Escape: () => (choose(null), true),
    };
    if (keys[event.key]?.()) event.preventDefault();
  });
  if (checkpoints < 2) byId("play").disabled = byId("time").disabled = true;
  goTo(0);
  Plotly.relayout("charts", { shapes: cursor(0) });
  document.body.dataset.ready = "yes";
}
start();
