// The page: its head, what the time goes to, and the views on the same data.

const PARTS = {
  compute: "operations at the measured peak",
  memory: "data at the measured bandwidth",
  imbalance: "waiting for other threads",
  other: "the rest: latency, conversions, addresses, start-up",
  unknown: "work whose roof is unknown",
};

function fillHeader(profile) {
  const sizes = Object.entries(profile.sizes).map(([name, size]) => `${name}=${size}`);
  byId("name").textContent = profile.name;
  byId("setting").textContent = [
    profile.precision, profile.target, profile.cpu,
    profile.cores === 1 ? "1 thread" : `${profile.cores} threads`, sizes.join(", ") || "fixed sizes",
  ].join(" · ");
  const flops = profile.steps.reduce((sum, step) => sum + step.flops, 0);
  const items = profile.items_per_second;
  const facts = [
    ["one call", duration(profile.call_microseconds)],
    ["kernels", duration(profile.microseconds)],
    ["throughput", `${items.toFixed(items < 100 ? 1 : 0)} /s`],
    [`of the ${profile.precision} peak`, percent(profile.share_of_peak)],
    ["waiting for threads", percent(profile.share_waiting)],
    ["operations", scaled(flops, "FLOP")],
    ["weights and activations", scaled(profile.roofline.call_bytes, "B")],
    ["kernel calls", String(profile.steps.length)],
  ];
  for (const [name, value] of facts) {
    const [amount, ...unit] = value.split(" ");
    const figure = element("dd", {}, amount);
    if (unit.length) figure.append(" ", element("span", { class: "unit" }, unit.join(" ")));
    byId("facts").append(element("div", {}, element("dt", {}, name), figure));
  }
}

// Shares of the whole time: the least that the roofs allow, waits, and what neither explains.
function partsOf(profile) {
  const parts = { compute: 0, memory: 0, imbalance: 0, other: 0, unknown: 0 };
  for (const step of profile.steps) {
    const waiting = (step.wait_microseconds ?? 0) / profile.microseconds;
    const working = Math.max(0, step.share - waiting);
    const least = Math.min(working, step.share * (step.share_of_roof ?? 0));
    parts.imbalance += waiting;
    if (step.roof !== null) parts[step.roof] += least;
    parts[step.roof === null ? "unknown" : "other"] += working - least;
  }
  return parts;
}

function fillParts(profile) {
  const parts = partsOf(profile);
  for (const [name, meaning] of Object.entries(PARTS)) {
    if (parts[name] < 0.0005) continue;
    const bar = element("div", { class: name });
    bar.style.flexGrow = String(parts[name]);
    byId("parts-bar").append(bar);
    byId("parts").append(element("li", {},
      element("span", { class: `key ${name}` }),
      element("span", {}, element("b", {}, percent(parts[name])), ` ${name}`,
        element("span", { class: "quiet" }, ` – ${meaning}`)),
    ));
  }
}

function rowsOf(step) {
  const rows = [
    ["operators", operatorsText(step)],
    ["time", `${duration(step.microseconds)}, ${percent(step.share)}`],
    ["rate", `${fixed(step.gflops, 1)} GFLOP/s, ${fixed(step.gbytes_per_second, 1)} GB/s`],
    ["of its roof", percent(step.share_of_roof)],
    ["limit", step.limit ?? "unknown"],
  ];
  if (step.imbalance !== null) {
    rows.push(["balance", `${fixed(step.imbalance, 2)}, wait ${duration(step.wait_microseconds)}`]);
  }
  rows.push(["source", shortSource(step.source)]);
  return rows;
}

function tellSelection(profile, chosen) {
  const steps = profile.steps.filter((step) => chosen.has(step.index));
  const time = steps.reduce((sum, step) => sum + step.microseconds, 0);
  if (steps.length > 1) {
    byId("selected").textContent = `${steps.length} kernel calls: ${duration(time)}`;
    return;
  }
  byId("selected").textContent = steps
    .map((step) => [step.label, ...rowsOf(step).map(([name, value]) => `${name} ${value}`)].join(" · "))
    .join("");
}

function fillNotes(profile) {
  const { peaks, levels } = profile.roofline;
  const notes = [
    `Times are medians over ${profile.calls} calls with random inputs, by the CPU's clock; a kernel's time ` +
      "runs from its first thread's start to the next kernel's. Operations and bytes are estimates.",
    `Roofs: the fastest of several rounds on the same cores; ${levels.map((l) => l.name).join(", ")} by reading.` +
      (Object.keys(peaks).length ? "" : " The peak of arithmetic is unknown here: measuring it needs llvmlite."),
    "“Limit” is the largest of the three causes, unless it is less than a third of the kernel's time.",
    "“Of roof” is the least time for a kernel's operations and data over its measured time. Activations count as " +
      "coming from the nearest cache that holds all that the kernel touches, weights from the nearest that holds a whole call.",
    "“Balance” is the busy time of the slowest thread over the average; 1 is even. “Wait” is the time in which the average thread does not work on the kernel: at the barrier after it, or because it starts late.",
  ];
  byId("notes").append(...notes.map((note) => element("p", {}, note)));
}

function start() {
  const profile = JSON.parse(byId("data").textContent);
  fillHeader(profile);
  fillParts(profile);
  fillNotes(profile);
  const kernels = new SortableTable(
    "kernels", "Kernel calls", KERNEL_COLUMNS, profile.steps, (step) => [step.index], "µs");
  const groups = (id, caption, name) => new SortableTable(
    id, caption, [name, ...GROUP_COLUMNS], profile[id], (group) => group.kernels, "µs");
  groups("sources", "Lines of the model",
    text("line", (group) => group.name, "name long", (group) => shortSource(group.name)));
  groups("operators", "Fused operators", text("operators", (group) => group.name, "long"));
  const timeline = new ThreadTimeline(profile, rowsOf);
  const draw = () => {
    drawRoofline(profile, rowsOf);
    timeline.draw();
  };
  draw();
  let width = document.body.clientWidth;
  addEventListener("resize", () => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    draw();
  });
  selection.watch((chosen) => {
    mark(document.querySelectorAll(".dot"), chosen);
    mark(timeline.bars, chosen);
    timeline.reveal(chosen);
    tellSelection(profile, chosen);
  });
  byId("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    kernels.filter((step) =>
      [step.label, step.kernel, step.source, step.limit ?? "", ...step.operators]
        .some((each) => each.toLowerCase().includes(wanted)));
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    tooltip.hide();
    selection.clear();
  });
}

start();
