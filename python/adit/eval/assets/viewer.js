"use strict";
// A small ball-and-stick renderer on plain 2D canvases: no WebGL, so no limit on the number of views.
// STRUCTURES: [{z: [atomic numbers], x: [[x, y, z], ...], r: [radii], b: [[i, j], ...], e: [[[x, y, z], [x, y, z]], ...], R: radius}]
// PLOTS: [{data, layout}] for Plotly, one for each div.plot
// COLOURS: {atomic number: [r, g, b]}

class View {
  constructor(canvas, structure) {
    this.canvas = canvas;
    this.structure = structure;
    this.zoom = 1;
    this.reset();
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.last = [event.clientX, event.clientY];
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.last) return;
      const [x, y] = this.last;
      this.last = [event.clientX, event.clientY];
      this.turn((event.clientX - x) * 0.01, (event.clientY - y) * 0.01);
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (this.last = null));
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key];
      if (!step) return;
      event.preventDefault();
      this.turn(...step);
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  reset() {
    this.matrix = [1, 0, 0, 0, 1, 0, 0, 0, 1];
    this.zoom = 1;
    this.draw();
  }

  turn(about_y, about_x) {
    const [cy, sy, cx, sx] = [Math.cos(about_y), Math.sin(about_y), Math.cos(about_x), Math.sin(about_x)];
    this.matrix = multiply(multiply([1, 0, 0, 0, cx, -sx, 0, sx, cx], [cy, 0, sy, 0, 1, 0, -sy, 0, cy]), this.matrix);
    this.draw();
  }

  draw() {
    const { canvas, structure } = this;
    const [width, height, pixels] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1];
    if (!width || !height) return;
    canvas.width = Math.round(width * pixels);
    canvas.height = Math.round(height * pixels);
    const context = canvas.getContext("2d");
    context.setTransform(pixels, 0, 0, pixels, 0, 0);
    const camera = 6 * structure.R;
    const scale = (this.zoom * 0.47 * Math.min(width, height)) / structure.R;
    const project = (point) => {
      const [x, y, z] = apply(this.matrix, point);
      const near = camera / (camera - z);
      return { x: width / 2 + scale * near * x, y: height / 2 - scale * near * y, z, size: scale * near };
    };
    const fade = (z) => 0.16 * Math.min(1, Math.max(0, (structure.R - z) / (2 * structure.R)));
    const items = [];
    for (const [from, to] of structure.e) {
      const [a, b] = [project(from), project(to)];
      items.push([Math.min(a.z, b.z) - 1e-3, () => line(context, a, b, 1.2, this.edge(), "butt")]);
    }
    const atoms = structure.x.map(project);
    for (const [i, j] of structure.b) {
      const [a, b] = [structure.x[i], structure.x[j]];
      const length = Math.hypot(...a.map((value, k) => b[k] - value));
      const at = (share) => project(a.map((value, k) => value + share * (b[k] - value)));
      const [out, into] = [(0.85 * structure.r[i]) / length, 1 - (0.85 * structure.r[j]) / length];
      const [start, middle, end] = [at(out), at((out + into) / 2), at(into)];
      if (out >= into) continue;
      for (const [tip, atom] of [[start, i], [end, j]]) {
        const depth = (tip.z + middle.z) / 2;
        items.push([depth, () => stick(context, tip, middle, COLOURS[structure.z[atom]], fade(depth))]);
      }
    }
    atoms.forEach((atom, i) => {
      items.push([atom.z, () => ball(context, atom, structure.r[i] * atom.size, COLOURS[structure.z[i]], fade(atom.z))]);
    });
    items.sort((left, right) => left[0] - right[0]);
    for (const [, paint] of items) paint();
  }

  edge() {
    return getComputedStyle(this.canvas).getPropertyValue("--edge");
  }
}

function multiply(a, b) {
  const c = [];
  for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) c.push(a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j]);
  return c;
}

function apply(m, [x, y, z]) {
  return [m[0] * x + m[1] * y + m[2] * z, m[3] * x + m[4] * y + m[5] * z, m[6] * x + m[7] * y + m[8] * z];
}

function tint(colour, towards, amount) {
  return `rgb(${colour.map((value, k) => Math.round(value + (towards[k] - value) * amount)).join(",")})`;
}

const [WHITE, BLACK, MIST] = [[255, 255, 255], [0, 0, 0], [128, 134, 144]];

function ball(context, { x, y }, radius, colour, fade) {
  const base = colour.map((value, k) => value + (MIST[k] - value) * fade);
  const gradient = context.createRadialGradient(x - 0.35 * radius, y - 0.4 * radius, 0.05 * radius, x, y, radius);
  gradient.addColorStop(0, tint(base, WHITE, 0.75));
  gradient.addColorStop(0.35, tint(base, WHITE, 0.1));
  gradient.addColorStop(0.8, tint(base, BLACK, 0.18));
  gradient.addColorStop(1, tint(base, BLACK, 0.42));
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = gradient;
  context.fill();
}

function stick(context, a, b, colour, fade) {
  const base = colour.map((value, k) => value + (MIST[k] - value) * fade);
  const width = 0.2 * a.size;
  line(context, a, b, width, tint(base, BLACK, 0.42), "round");
  line(context, a, b, 0.72 * width, tint(base, BLACK, 0.12), "round");
  line(context, a, b, 0.25 * width, tint(base, WHITE, 0.3), "round");
}

function line(context, a, b, width, colour, cap) {
  context.beginPath();
  context.moveTo(a.x, a.y);
  context.lineTo(b.x, b.y);
  context.lineWidth = width;
  context.lineCap = cap;
  context.strokeStyle = colour;
  context.stroke();
}

const dialog = document.querySelector("dialog");
const big = new View(dialog.querySelector("canvas"), STRUCTURES[0] || { z: [], x: [], r: [], b: [], e: [], R: 1 });
big.canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  big.zoom = Math.min(8, Math.max(0.3, big.zoom * Math.exp(-0.001 * event.deltaY)));
  big.draw();
}, { passive: false });
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
const views = [...document.querySelectorAll("figure.structure")].map((figure, index) => {
  const view = new View(figure.querySelector("canvas"), STRUCTURES[index]);
  figure.querySelector("button").addEventListener("click", () => {
    dialog.querySelector("p").replaceChildren(figure.querySelector("figcaption").cloneNode(true));
    dialog.showModal();
    big.structure = view.structure;
    big.reset();
  });
  return view;
});
document.querySelectorAll(".plot > div").forEach((cell, index) => {
  const { data, layout } = PLOTS[index];
  Plotly.newPlot(cell, data, layout, { displayModeBar: false, responsive: true });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => [...views, big].forEach((view) => view.draw()));
