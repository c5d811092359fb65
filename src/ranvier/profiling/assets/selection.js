// The kernel calls that the user has chosen, wherever: every view shows the same ones.

const selection = {
  chosen: new Set(),
  views: [],
  // `view(chosen, scroll)` is called after every change; scroll asks it to bring them into sight.
  watch(view) {
    this.views.push(view);
  },
  choose(indices, scroll = true) {
    const same = indices.length === this.chosen.size && indices.every((k) => this.chosen.has(k));
    this.chosen = new Set(same ? [] : indices);
    for (const view of this.views) view(this.chosen, scroll);
  },
  clear() {
    if (this.chosen.size) this.choose([...this.chosen]);
  },
};

function mark(elements, chosen) {
  for (const each of elements) {
    each.classList.toggle("chosen", chosen.has(Number(each.dataset.index)));
  }
}

// One tab stop for many elements: arrow keys move between them, Enter chooses.
function roving(elements, choose) {
  elements.forEach((each, position) => {
    each.setAttribute("tabindex", position === 0 ? "0" : "-1");
    each.addEventListener("keydown", (event) => {
      const last = elements.length - 1;
      const to = {
        ArrowDown: position + 1, ArrowRight: position + 1,
        ArrowUp: position - 1, ArrowLeft: position - 1, Home: 0, End: last,
      }[event.key];
      if (to !== undefined) {
        const next = elements[Math.min(last, Math.max(0, to))];
        each.setAttribute("tabindex", "-1");
        next.setAttribute("tabindex", "0");
        next.focus();
      } else if (event.key === "Enter" || event.key === " ") {
        choose(each);
      } else {
        return;
      }
      event.preventDefault();
    });
  });
}
