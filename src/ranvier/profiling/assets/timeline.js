// The timeline: a lane for each thread, a bar for each kernel call, a pale one where it waits.

const LANE_GAP = 4;
const GUTTER = 66;
const AXIS_HEIGHT = 26;
const ZOOM = 1.4;
const CLICK_DISTANCE = 4;
const LETTER_WIDTH = 6.3;

class ThreadTimeline {
  constructor(profile, rows) {
    this.profile = profile;
    this.rows = rows;
    this.host = byId("timeline");
    const { begins, ends } = profile.timeline;
    this.total = Math.max(1e-3, ...ends.map((lane) => Math.max(0, ...lane)));
    this.threads = begins.length;
    this.lane = this.threads > 16 ? 14 : this.threads > 4 ? 22 : 30;
    this.low = 0;
    this.high = this.total;
    this.listen();
  }

  draw() {
    this.width = Math.max(300, this.host.clientWidth);
    this.inner = this.width - GUTTER - 2;
    const lanes = this.threads * (this.lane + LANE_GAP);
    const height = lanes + AXIS_HEIGHT;
    this.bottom = lanes;
    const svg = shape("svg", { width: this.width, height, viewBox: `0 0 ${this.width} ${height}` });
    this.view = shape("svg", {
      class: "view", x: GUTTER, y: 0, width: this.inner, height: lanes, preserveAspectRatio: "none",
    });
    this.bars = [];
    for (let thread = 0; thread < this.threads; thread += 1) this.drawLane(svg, thread);
    this.marks = shape("g");
    svg.append(this.view, this.marks);
    this.host.replaceChildren(svg);
    mark(this.bars, selection.chosen);
    this.look(this.low, this.high);
  }

  drawLane(svg, thread) {
    const { begins, finishes, ends } = this.profile.timeline;
    const top = thread * (this.lane + LANE_GAP);
    svg.append(shape("text", {
      class: "axis", x: GUTTER - 8, y: top + this.lane / 2 + 4, "text-anchor": "end",
    }, `thread ${thread}`));
    this.profile.steps.forEach((step) => {
      const k = step.index;
      const begin = begins[thread][k];
      const finish = finishes === null ? ends[thread][k] : finishes[thread][k];
      const kind = `${step.limit ?? "unknown"}${k % 2 ? " odd" : ""}`;
      this.addBar(kind, thread, k, begin, finish, top, this.lane);
      if (ends[thread][k] > finish) {
        this.addBar("wait", thread, k, finish, ends[thread][k], top + this.lane * 0.3, this.lane * 0.4);
      }
    });
  }

  addBar(kind, thread, index, from, to, top, height) {
    const bar = shape("rect", {
      class: `bar ${kind}`, x: from, width: Math.max(0, to - from), y: top, height,
      "data-index": index, "data-thread": thread,
    });
    this.bars.push(bar);
    this.view.append(bar);
  }

  // Shows the microseconds from low to high, kept inside the call and not shorter than 0.1 µs.
  look(low, high) {
    const span = Math.min(this.total, Math.max(0.1, high - low));
    this.low = Math.min(Math.max(0, low), this.total - span);
    this.high = this.low + span;
    this.view.setAttribute("viewBox", `${this.low} 0 ${span} ${this.bottom}`);
    this.marks.replaceChildren(...this.axis(), ...this.names());
    this.host.dataset.low = this.low;
    this.host.dataset.high = this.high;
  }

  pixel(time) {
    return GUTTER + ((time - this.low) / (this.high - this.low)) * this.inner;
  }

  *axis() {
    const { ticks, step } = roundTicks(this.low, this.high, this.inner / 90);
    const [scale, unit] = this.high >= 1000 ? [1000, "ms"] : [1, "µs"];
    const digits = Math.max(0, Math.ceil(-Math.log10((step / scale) * 1.0000001)));
    yield shape("line", { class: "frame", x1: GUTTER, x2: GUTTER + this.inner, y1: this.bottom, y2: this.bottom });
    for (const tick of ticks) {
      const at = this.pixel(tick);
      const anchor = at > this.width - 30 ? "end" : at < GUTTER + 20 ? "start" : "middle";
      yield shape("line", { class: "frame", x1: at, x2: at, y1: this.bottom, y2: this.bottom + 5 });
      yield shape("text", { class: "axis", x: at, y: this.bottom + 19, "text-anchor": anchor },
        `${(tick / scale).toFixed(digits)} ${unit}`);
    }
  }

  *names() {
    if (this.lane < 20) return;
    const { begins, finishes, ends } = this.profile.timeline;
    for (let thread = 0; thread < this.threads; thread += 1) {
      for (const { index, label } of this.profile.steps) {
        const from = Math.max(GUTTER, this.pixel(begins[thread][index]));
        const to = Math.min(GUTTER + this.inner, this.pixel((finishes ?? ends)[thread][index]));
        const letters = Math.floor((to - from - 8) / LETTER_WIDTH);
        if (letters < 4) continue;
        const name = label.length > letters ? `${label.slice(0, letters - 1)}…` : label;
        const y = thread * (this.lane + LANE_GAP) + this.lane / 2 + 4;
        yield shape("text", { class: "bar-name", x: from + 4, y }, name);
      }
    }
  }

  zoom(factor, anchor = (this.low + this.high) / 2) {
    this.look(anchor - (anchor - this.low) / factor, anchor + (this.high - anchor) / factor);
  }

  move(share) {
    const by = share * (this.high - this.low);
    this.look(this.low + by, this.high + by);
  }

  // Brings chosen bars into sight: those outside are moved to, the view keeps its width.
  reveal(chosen) {
    if (chosen.size !== 1) return;
    const [index] = chosen;
    const from = Math.min(...this.profile.timeline.begins.map((lane) => lane[index]));
    const to = Math.max(...this.profile.timeline.ends.map((lane) => lane[index]));
    if (to < this.low || from > this.high) {
      const half = (this.high - this.low) / 2;
      this.look((from + to) / 2 - half, (from + to) / 2 + half);
    }
  }

  time(clientX) {
    const { left } = this.host.getBoundingClientRect();
    return this.low + ((clientX - left - GUTTER) / this.inner) * (this.high - this.low);
  }

  listen() {
    const actions = {
      "zoom-in": () => this.zoom(ZOOM), "zoom-out": () => this.zoom(1 / ZOOM),
      "zoom-all": () => this.look(0, this.total),
      earlier: () => this.move(-0.25), later: () => this.move(0.25),
    };
    for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
    const keys = {
      "+": actions["zoom-in"], "=": actions["zoom-in"], "-": actions["zoom-out"],
      0: actions["zoom-all"], ArrowLeft: actions.earlier, ArrowRight: actions.later,
      Home: () => this.look(0, this.high - this.low),
      End: () => this.look(this.total - (this.high - this.low), this.total),
    };
    this.host.addEventListener("keydown", (event) => {
      const action = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
      if (action === undefined) return;
      action();
      event.preventDefault();
    });
    this.host.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.listenToPointer();
  }

  onWheel(event) {
    tooltip.hide();
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.move((event.deltaX || event.deltaY) / this.inner);
    } else if (event.deltaY > 0 && this.high - this.low >= this.total) {
      return; // all is in sight: the page scrolls on
    } else {
      this.zoom(ZOOM ** Math.max(-1, Math.min(1, -event.deltaY / 60)), this.time(event.clientX));
    }
    event.preventDefault();
  }

  listenToPointer() {
    let start = null;
    this.host.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      start = { x: event.clientX, low: this.low, high: this.high, bar: event.target, moved: false };
      this.host.setPointerCapture(event.pointerId);
    });
    this.host.addEventListener("pointermove", (event) => {
      if (start === null) {
        this.hint(event);
        return;
      }
      const distance = event.clientX - start.x;
      start.moved ||= Math.abs(distance) > CLICK_DISTANCE;
      if (!start.moved) return;
      tooltip.hide();
      this.host.classList.add("dragging");
      const by = (distance / this.inner) * (start.high - start.low);
      this.look(start.low - by, start.high - by);
    });
    const stop = (event) => {
      if (event.type === "pointerup" && start !== null && !start.moved && start.bar.dataset.index) {
        selection.choose([Number(start.bar.dataset.index)]);
      }
      start = null;
      this.host.classList.remove("dragging");
    };
    this.host.addEventListener("pointerup", stop);
    this.host.addEventListener("pointercancel", stop);
    this.host.addEventListener("pointerleave", () => tooltip.hide());
  }

  hint(event) {
    const { index, thread } = event.target.dataset;
    if (index === undefined) {
      tooltip.hide();
      return;
    }
    const { begins, finishes, ends } = this.profile.timeline;
    const step = this.profile.steps[index];
    const finish = (finishes ?? ends)[thread][index];
    const here = [["on thread", thread], ["worked", duration(finish - begins[thread][index])]];
    if (finishes !== null) here.push(["waited", duration(ends[thread][index] - finish)]);
    tooltip.show(step.label, [...here, ...this.rows(step)], event.clientX, event.clientY);
  }
}
