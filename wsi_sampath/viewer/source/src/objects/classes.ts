// The classes that annotations get: the active one, by number keys or by a click, and new ones.
import { Store } from "../page/store";
import { colorOf, el, swatch } from "../page/dom";
import { iconButton } from "../page/controls";
import type { NamedColor } from "../server/types";
import type { SessionDesk } from "./session";

// Distinct on stained tissue, which is pink and purple, and for the colour-blind.
const NEW_COLORS = ["#0072b2", "#009e73", "#d55e00", "#e69f00", "#56b4e9", "#6b8e23", "#00a6a6"];
export const NO_CLASS_COLOR = "#1b6ef3";

export class ActiveClass {
  readonly name = new Store<string | null>(null);

  constructor(private readonly session: SessionDesk) {
    session.state.listen(({ classes }) => {
      if (!classes.some(({ name }) => name === this.name.value)) {
        this.name.value = classes[0]?.name ?? null;
      }
    });
  }

  get all(): NamedColor[] {
    return this.session.state.value.classes;
  }

  get color(): string {
    const found = this.all.find(({ name }) => name === this.name.value);
    return found ? colorOf(found.color) : NO_CLASS_COLOR;
  }

  /** Choose the n-th, from 1; whether there is one. */
  choose(n: number): boolean {
    const found = this.all[n - 1];
    if (found) {
      this.name.value = found.name;
    }
    return found !== undefined;
  }
}

/** The chips of the classes and a small form for another one. */
export function classChips(session: SessionDesk, active: ActiveClass): HTMLElement {
  const chips = el("div", { class: "chips", role: "radiogroup", "aria-label": "Class of what is drawn" });
  const show = () => {
    const focused = chips.contains(document.activeElement);
    chips.replaceChildren(
      ...active.all.map((item, index) => chip(item, index, active)),
    );
    if (focused) {
      chips.querySelector<HTMLElement>("input:checked")?.focus();
    }
  };
  session.state.listen(show);
  active.name.listen(show);
  return el("div", {}, chips, newClass(session, active));
}

function chip({ name, color }: NamedColor, index: number, active: ActiveClass): HTMLElement {
  const input = el("input", { type: "radio", name: "active-class", value: name });
  input.checked = name === active.name.value;
  input.addEventListener("change", () => active.choose(index + 1));
  const key = index < 9 ? el("kbd", { text: String(index + 1) }) : null;
  return el("label", { class: "chip" }, input, swatch(color), el("span", { text: name }), key);
}

function newClass(session: SessionDesk, active: ActiveClass): HTMLElement {
  const name = el("input", {
    type: "text",
    placeholder: "New class",
    "aria-label": "Name of a new class, or of one to recolour",
    maxlength: 100,
    required: true,
  });
  const color = el("input", { type: "color", "aria-label": "Its colour" });
  const propose = () => {
    color.value = NEW_COLORS[active.all.length % NEW_COLORS.length] as string;
  };
  session.state.listen(propose);
  const add = iconButton("plus", "Add the class", null, () => undefined);
  add.type = "submit";
  const form = el("form", { class: "new-class" }, name, color, add);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = name.value.trim();
    if (text && (await session.send({ type: "class", name: text, color: color.value }))) {
      name.value = "";
      active.name.value = text;
    }
  });
  return form;
}
