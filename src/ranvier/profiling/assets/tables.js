// Sortable tables. A column: heading, value to sort by, text, and class of its cells.

function number(heading, value, digits) {
  return { heading, value, text: (row) => fixed(value(row), digits), kind: "number", number: true };
}

function share(heading, value) {
  return {
    heading, value, text: (row) => percent(value(row)), kind: "number share", number: true,
    length: (row) => value(row),
  };
}

function text(heading, value, kind = "", shown = value) {
  return { heading, value, text: shown, kind, number: false };
}

const RATES = [
  number("GFLOP/s", (row) => row.gflops, 1),
  number("GB/s", (row) => row.gbytes_per_second, 1),
];

const KERNEL_COLUMNS = [
  number("#", (step) => step.index, 0),
  text("value", (step) => step.label, "name long"),
  number("µs", (step) => step.microseconds, 1),
  share("share", (step) => step.share),
  ...RATES,
  number("of roof %", (step) => (step.share_of_roof === null ? null : 100 * step.share_of_roof), 1),
  { ...text("limit", (step) => step.limit ?? "unknown"), key: true },
  number("balance", (step) => step.imbalance, 2),
  number("wait µs", (step) => step.wait_microseconds, 1),
  text("operators", (step) => operatorsText(step), "long"),
  text("source", (step) => step.source, "name long", (step) => shortSource(step.source)),
  text("kernel", (step) => step.kernel, "name"),
];

const GROUP_COLUMNS = [
  number("calls", (group) => group.kernels.length, 0),
  number("µs", (group) => group.microseconds, 1),
  share("share", (group) => group.share),
  ...RATES,
  number("wait µs", (group) => group.wait_microseconds, 1),
];

function operatorsText(step) {
  const counts = new Map();
  for (const name of step.operators) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts].map(([name, count]) => (count === 1 ? name : `${count} ${name}`)).join(", ");
}

class SortableTable {
  // `indices(row)` are the kernel calls that a row stands for.
  constructor(id, caption, columns, rows, indices, sortBy) {
    this.columns = columns;
    this.rows = rows;
    this.indices = indices;
    this.order = { column: columns.findIndex((column) => column.heading === sortBy), down: true };
    this.wanted = () => true;
    this.head = element("tr");
    this.body = element("tbody");
    byId(id).setAttribute("aria-label", caption);
    byId(id).append(element("thead", {}, this.head), this.body);
    columns.forEach((column, position) => this.addHeading(column, position));
    this.draw();
    selection.watch((chosen, scroll) => this.markRows(chosen, scroll));
  }

  addHeading(column, position) {
    const button = element("button", { type: "button" }, column.heading);
    button.addEventListener("click", () => {
      const again = this.order.column === position;
      this.order = { column: position, down: again ? !this.order.down : column.number };
      this.draw();
    });
    this.head.append(element("th", { scope: "col", class: column.kind.replace("share", "") }, button));
  }

  draw() {
    const { column, down } = this.order;
    const { value } = this.columns[column];
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null); // unknown ones last
      return (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    };
    [...this.head.children].forEach((cell, position) => {
      if (position === column) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    this.drawn = this.rows.filter(this.wanted).sort(compare).map((row) => this.makeRow(row));
    this.body.replaceChildren(...this.drawn.map(({ line }) => line));
    const indicesOf = new Map(this.drawn.map(({ line, indices }) => [line, indices]));
    roving(this.drawn.map(({ line }) => line), (line) => selection.choose(indicesOf.get(line), false));
    this.markRows(selection.chosen, false);
  }

  makeRow(row) {
    const indices = this.indices(row);
    const line = element("tr");
    for (const column of this.columns) {
      const shown = column.text(row);
      const cell = element("td", { class: column.kind }, shown);
      if (column.kind.includes("long")) cell.title = String(column.value(row));
      if (column.key) cell.prepend(element("span", { class: `key ${shown}` }));
      if (column.length) {
        const longest = Math.max(...this.rows.map(column.length));
        cell.style.setProperty("--length", `${((column.length(row) / longest) * 100).toFixed(1)}%`);
      }
      line.append(cell);
    }
    line.addEventListener("click", () => selection.choose(indices, false));
    return { line, indices };
  }

  markRows(chosen, scroll) {
    let first = null;
    for (const { line, indices } of this.drawn) {
      const marked = indices.length > 0 && indices.every((index) => chosen.has(index));
      line.classList.toggle("chosen", marked);
      line.setAttribute("aria-selected", marked);
      if (marked) first ??= line;
    }
    // Inside the table's own box only: the page stays where the user looks.
    if (scroll && first !== null) {
      const box = this.body.closest(".scroll");
      box.scrollTop = first.offsetTop - box.clientHeight / 2;
    }
  }

  filter(wanted) {
    this.wanted = wanted;
    this.draw();
  }
}
