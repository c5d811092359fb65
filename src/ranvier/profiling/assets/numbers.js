// Numbers as a person reads them. A figure that is not known (null) is a dash.

const UNKNOWN = "–";

function fixed(value, digits) {
  return value === null ? UNKNOWN : value.toFixed(digits);
}

function percent(share) {
  return share === null ? UNKNOWN : `${(share * 100).toFixed(1)} %`;
}

// Three significant digits, with the prefix that fits: scaled(5.7e7, "B") is "57.0 MB".
function scaled(value, unit) {
  const prefixes = ["", "k", "M", "G", "T"];
  let size = value;
  let step = 0;
  while (size >= 999.5 && step < prefixes.length - 1) {
    size /= 1000;
    step += 1;
  }
  const digits = size >= 99.95 || (step === 0 && Number.isInteger(size)) ? 0 : size >= 9.995 ? 1 : 2;
  return `${size.toFixed(digits)} ${prefixes[step]}${unit}`;
}

function duration(microseconds) {
  if (microseconds === null) return UNKNOWN;
  return microseconds < 1000
    ? `${microseconds.toFixed(1)} µs`
    : `${(microseconds / 1000).toFixed(2)} ms`;
}

// Round steps of an axis: 1, 2 or 5 times a power of ten, about `count` of them from low to high.
function roundTicks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high; k += 1) ticks.push(k * step);
  return { ticks, step };
}

// The last parts of a path tell lines apart: "models/resnet.py:146".
function shortSource(source) {
  return source.split("/").slice(-2).join("/");
}
