// Buttons, sliders and choices that look and speak alike.
import { el, icon } from "./dom";
import { ICONS, type IconName } from "./icons";

/** A button with an icon; its label is spoken, and shown with its key when pointed at. */
export function iconButton(
  name: IconName,
  label: string,
  key: string | null,
  action: () => void,
): HTMLButtonElement {
  const button = el(
    "button",
    {
      type: "button",
      class: "icon-button",
      "aria-label": label,
      title: key ? `${label} (${key})` : label,
      "aria-keyshortcuts": key ?? undefined,
    },
    icon(ICONS[name]),
  );
  button.addEventListener("click", action);
  return button;
}

/** A link that looks like such a button. */
export function iconLink(name: IconName, label: string, href: string): HTMLAnchorElement {
  return el("a", { class: "icon-button", "aria-label": label, title: label, href }, icon(ICONS[name]));
}

export function textButton(text: string, action: () => void, kind = ""): HTMLButtonElement {
  const button = el("button", { type: "button", class: `button ${kind}`, text });
  button.addEventListener("click", action);
  return button;
}

export interface Choice<T extends string> {
  value: T;
  text: string;
  title?: string;
}

/** One of a few, side by side; the arrow keys move as in any group of radio buttons. */
export class Segments<T extends string> {
  readonly element: HTMLElement;
  private readonly inputs = new Map<T, HTMLInputElement>();
  private static made = 0;

  constructor(label: string, choices: Choice<T>[], chosen: (value: T) => void) {
    const group = `choice-${Segments.made++}`;
    this.element = el("div", { class: "segments", role: "radiogroup", "aria-label": label });
    for (const { value, text, title } of choices) {
      const input = el("input", { type: "radio", name: group, value });
      input.addEventListener("change", () => chosen(value));
      this.inputs.set(value, input);
      this.element.append(el("label", { title }, input, el("span", { text })));
    }
  }

  set value(value: T) {
    const input = this.inputs.get(value);
    if (input) {
      input.checked = true;
    }
  }

  enable(value: T, enabled: boolean): void {
    const input = this.inputs.get(value);
    if (input) {
      input.disabled = !enabled;
    }
  }
}

/** A choice from a list that may change. */
export class Select {
  readonly element: HTMLSelectElement;
  private shown = "";

  constructor(label: string, chosen: (value: string) => void) {
    this.element = el("select", { "aria-label": label });
    this.element.addEventListener("change", () => chosen(this.element.value));
  }

  show(options: { value: string; text: string }[], value: string): void {
    const key = JSON.stringify(options);
    if (key !== this.shown) {
      this.shown = key;
      this.element.replaceChildren(
        ...options.map((option) => el("option", { value: option.value, text: option.text })),
      );
    }
    this.element.value = value;
  }
}

export function checkbox(
  label: string,
  changed: (checked: boolean) => void,
): { element: HTMLLabelElement; input: HTMLInputElement } {
  const input = el("input", { type: "checkbox" });
  input.addEventListener("change", () => changed(input.checked));
  return { element: el("label", { class: "check" }, input, el("span", { text: label })), input };
}

/** A section of the side panel that folds. */
export function section(title: string, open: boolean, ...children: Node[]): HTMLDetailsElement {
  return el(
    "details",
    { class: "section", open },
    el("summary", {}, el("h2", { text: title })),
    el("div", { class: "section-body" }, ...children),
  );
}
