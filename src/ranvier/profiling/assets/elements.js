// Elements of the page. Text only ever enters as a text node or an attribute that is no code.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function shape(tag, attributes = {}, text = null) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return made;
}

function byId(id) {
  return document.getElementById(id);
}

const tooltip = {
  // Shows a heading and rows of [name, value] beside a place of the window.
  show(title, rows, x, y) {
    const list = element("dl");
    for (const [name, value] of rows) list.append(element("dt", {}, name), element("dd", {}, value));
    const box = byId("tooltip");
    box.replaceChildren(element("strong", {}, title), list);
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    const left = x + 14 + width > innerWidth ? x - 14 - width : x + 14;
    const top = y + 14 + height > innerHeight ? y - 14 - height : y + 14;
    box.style.left = `${Math.max(8, left)}px`;
    box.style.top = `${Math.max(8, top)}px`;
  },
  showAt(title, rows, target) {
    const { right, top } = target.getBoundingClientRect();
    this.show(title, rows, right, top);
  },
  hide() {
    byId("tooltip").hidden = true;
  },
};
