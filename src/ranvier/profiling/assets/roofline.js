// The roofline plot: operations per second over operations per byte, both logarithmic.

const ROOFLINE_HEIGHT = 400;
const LARGEST_DOT = 15;
const TICK_WIDTH = 44;
const GIGA = 1e9;

// Decades that hold all values, with a little room.
function decades(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  return [Math.log10(low) - 0.3, Math.log10(high) + 0.3];
}

function rooflineScales(profile, width) {
  const { peaks, levels } = profile.roofline;
  const working = profile.steps.filter((step) => step.flops > 0);
  const peak = Math.max(...Object.values(peaks), 0);
  const top = Math.max(peak, ...working.map((step) => step.gflops * GIGA), 1);
  const ridges = levels.map((level) => top / level.bytes_per_second);
  const xs = working.map((step) => step.flops / Math.max(1, step.bytes));
  const [x0, x1] = decades([...xs, ...ridges]);
  const [y0, y1] = decades([...working.map((step) => step.gflops * GIGA), top, top / 1000]);
  const box = { left: 58, right: width - 14, top: 12, bottom: ROOFLINE_HEIGHT - 44 };
  const x = (value) => box.left + ((Math.log10(value) - x0) / (x1 - x0)) * (box.right - box.left);
  const y = (value) => box.bottom - ((Math.log10(value) - y0) / (y1 - y0)) * (box.bottom - box.top);
  return { box, x, y, x0, x1, y0, y1, top, peak };
}

// Where a kernel stands. Without operations it has no place on a logarithmic axis: it stands at the
// left edge at the height that its bytes per second have there, so its distance to the roofs holds.
function place(step, scales) {
  const edge = 10 ** scales.x0;
  const idle = !(step.flops > 0);
  const rate = idle ? step.gbytes_per_second * GIGA * edge : step.gflops * GIGA;
  const lowest = 10 ** scales.y0;
  return {
    idle,
    x: scales.x(idle ? edge : step.flops / Math.max(1, step.bytes)),
    y: scales.y(Math.max(lowest, rate)),
  };
}

function drawGrid(svg, { box, x, y, x0, x1, y0, y1 }) {
  const every = Math.ceil(TICK_WIDTH / (x(10) - x(1)));
  for (let k = Math.ceil(x0 / every) * every; k <= x1; k += every) {
    const at = x(10 ** k);
    svg.append(
      shape("line", { class: "grid", x1: at, x2: at, y1: box.top, y2: box.bottom }),
      shape("text", { class: "axis", x: at, y: box.bottom + 17, "text-anchor": "middle" }, decadeName(k)),
    );
  }
  for (let k = Math.ceil(y0); k <= y1; k += 1) {
    const at = y(10 ** k);
    svg.append(
      shape("line", { class: "grid", x1: box.left, x2: box.right, y1: at, y2: at }),
      shape("text", { class: "axis", x: box.left - 8, y: at + 4, "text-anchor": "end" }, decadeName(k - 9)),
    );
  }
  const middle = (box.top + box.bottom) / 2;
  svg.append(
    shape("rect", {
      class: "frame", x: box.left, y: box.top,
      width: box.right - box.left, height: box.bottom - box.top,
    }),
    shape("text", { class: "axis", x: (box.left + box.right) / 2, y: box.bottom + 36, "text-anchor": "middle" },
      "operations per byte"),
    shape("text", { class: "axis", x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` },
      "GFLOP/s"),
  );
}

function decadeName(exponent) {
  return String(Number(`1e${exponent}`));
}

// Lines go below the dots, their names above them.
function drawRoofs(lines, names, profile, scales) {
  drawBandwidths(lines, names, profile.roofline.levels, scales);
  const { box, x, y } = scales;
  const fastest = Math.max(...profile.roofline.levels.map((level) => level.bytes_per_second));
  for (const [precision, peak] of Object.entries(profile.roofline.peaks)) {
    const from = Math.max(box.left, x(peak / fastest));
    lines.append(shape("line", { class: "roof", x1: from, x2: box.right, y1: y(peak), y2: y(peak) }));
    names.append(shape("text", {
      class: "roof-name", x: box.right - 6, y: y(peak) + (peak >= scales.peak ? -7 : 15), "text-anchor": "end",
    }, `${precision} ${scaled(peak, "FLOP/s")}`));
  }
}

function drawBandwidths(lines, names, levels, { x, y, x0, x1, y0, top }) {
  const slope = (y(1) - y(10)) / (x(10) - x(1));
  const angle = (-Math.atan(slope) * 180) / Math.PI;
  levels.forEach((level, position) => {
    const rate = level.bytes_per_second;
    const from = Math.max(10 ** x0, 10 ** y0 / rate);
    const to = Math.min(10 ** x1, top / rate);
    if (from >= to) return;
    lines.append(shape("line", {
      class: "roof bandwidth", x1: x(from), y1: y(from * rate), x2: x(to), y2: y(to * rate),
    }));
    // Neighbouring roofs are close: the nearest level's name is above its line, the others' below,
    // each further along.
    const along = x(from) + (x(to) - x(from)) * Math.min(0.85, 0.08 + 0.21 * position);
    const height = y(from * rate) - slope * (along - x(from));
    names.append(shape("text", {
      class: "roof-name", transform: `translate(${along} ${height}) rotate(${angle})`,
      dy: position === 0 ? -6 : 15,
    }, `${level.name} ${scaled(rate, "B/s")}`));
  });
}

function drawRoofline(profile, rows) {
  const host = byId("roofline");
  const width = Math.max(300, host.clientWidth);
  const scales = rooflineScales(profile, width);
  const svg = shape("svg", {
    width, height: ROOFLINE_HEIGHT, viewBox: `0 0 ${width} ${ROOFLINE_HEIGHT}`,
    role: "group", "aria-label": "Roofline plot; arrow keys move between kernel calls",
  });
  drawGrid(svg, scales);
  const [lines, names] = [shape("g"), shape("g")];
  drawRoofs(lines, names, profile, scales);
  const largest = Math.min(LARGEST_DOT, width / 40);
  const most = Math.max(...profile.steps.map((step) => step.microseconds));
  const byTime = [...profile.steps].sort((a, b) => b.microseconds - a.microseconds);
  const dots = byTime.map((step) => {
    const { x, y, idle } = place(step, scales);
    const dot = shape("circle", {
      class: `dot ${step.limit ?? "unknown"}${idle ? " idle" : ""}`, cx: x, cy: y,
      r: Math.max(3, largest * Math.sqrt(step.microseconds / most)),
      role: "button", "aria-label": `${step.label}, ${duration(step.microseconds)}`,
      "data-index": step.index,
    });
    const show = (event) => tooltip.show(step.label, rows(step), event.clientX, event.clientY);
    dot.addEventListener("pointermove", show);
    dot.addEventListener("pointerleave", () => tooltip.hide());
    dot.addEventListener("focus", () => tooltip.showAt(step.label, rows(step), dot));
    dot.addEventListener("blur", () => tooltip.hide());
    dot.addEventListener("click", () => selection.choose([step.index]));
    return dot;
  });
  roving(dots, (dot) => selection.choose([Number(dot.dataset.index)]));
  svg.append(lines, ...dots, names);
  host.replaceChildren(svg);
  mark(dots, selection.chosen);
}
