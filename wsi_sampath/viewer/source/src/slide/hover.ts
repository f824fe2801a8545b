// What lies under the pointer, asked for at most ten times a second, the earlier question dropped.
import { el, swatch } from "../page/dom";
import { significant } from "../page/numbers";
import { get, isAbort } from "../server/api";
import type { Nucleus, Place, Point, Ring } from "../server/types";
import type { Scene } from "./scene";

const EVERY_MS = 100;
const MOST_ROWS = 12;
// What is said already, or means nothing to people.
const LEFT_OUT = new Set(["id", "class", "outline", "x_um", "y_um", "x_px", "y_px"]);

export class Hover {
  readonly element = el("div", { class: "tip", role: "tooltip", hidden: true });
  /** The outline of the nucleus under the pointer. */
  outline: Ring | null = null;
  private control = new AbortController();
  private timer = 0;
  private asked = 0;

  constructor(
    private readonly scene: Scene,
    private readonly result: (across: number) => string | null,
    private readonly changed: () => void,
  ) {}

  /** The pointer is here; `client` are px of the window. */
  over(client: { clientX: number; clientY: number }): void {
    window.clearTimeout(this.timer);
    const wait = Math.max(0, EVERY_MS - (performance.now() - this.asked));
    this.timer = window.setTimeout(() => void this.ask(client), wait);
  }

  /** For those without a pointer: what is in the middle of the view. */
  overCentre(): void {
    const { left, top, width, height } = this.scene.stage.getBoundingClientRect();
    this.over({ clientX: left + width / 2, clientY: top + height / 2 });
  }

  close(): void {
    window.clearTimeout(this.timer);
    this.control.abort();
  }

  private async ask(client: { clientX: number; clientY: number }): Promise<void> {
    this.control.abort();
    const control = new AbortController();
    this.control = control;
    this.asked = performance.now();
    const point = this.scene.at(client);
    const { left, width } = this.scene.stage.getBoundingClientRect();
    const id = this.result((client.clientX - left) / width);
    if (!id || !this.scene.inside(point)) {
      this.hide();
      return;
    }
    try {
      const place = await get<Place>(at(id, point), control.signal);
      this.show(place, client);
    } catch (error) {
      if (!isAbort(error)) {
        this.hide();
      }
    }
  }

  private show(place: Place, client: { clientX: number; clientY: number }): void {
    this.outline = place.nucleus?.outline ?? null;
    this.changed();
    if (!place.class && !place.nucleus) {
      this.element.hidden = true;
      return;
    }
    this.element.replaceChildren(...contents(place));
    this.element.hidden = false;
    const box = this.scene.stage.getBoundingClientRect();
    const [x, y] = [client.clientX - box.left, client.clientY - box.top];
    const { offsetWidth, offsetHeight } = this.element;
    const left = x + 16 + offsetWidth > box.width ? x - offsetWidth - 12 : x + 16;
    const top = Math.min(y + 16, box.height - offsetHeight - 8);
    this.element.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
  }

  hide(): void {
    window.clearTimeout(this.timer);
    this.control.abort();
    this.element.hidden = true;
    if (this.outline) {
      this.outline = null;
      this.changed();
    }
  }
}

function at(result: string, [x, y]: Point): string {
  return `/api/results/${result}/at?x=${x.toFixed(2)}&y=${y.toFixed(2)}`;
}

function contents(place: Place): Node[] {
  const nodes: Node[] = [];
  if (place.class) {
    const { name, color } = place.class;
    const sure = place.probabilities?.[name];
    const value = sure === undefined ? null : el("span", { class: "tip-p", text: sure.toFixed(2) });
    nodes.push(el("p", { class: "tip-class" }, swatch(color), el("b", { text: name }), value));
  }
  const rows = place.nucleus ? nucleusRows(place.nucleus) : otherClasses(place);
  if (rows.length) {
    const list = el("dl", {});
    for (const [name, value] of rows) {
      list.append(el("dt", { text: name }), el("dd", { text: value }));
    }
    nodes.push(list);
  }
  return nodes;
}

function otherClasses(place: Place): [string, string][] {
  return Object.entries(place.probabilities ?? {})
    .filter(([name, p]) => name !== place.class?.name && p >= 0.05)
    .sort((a, b) => b[1] - a[1])
    .slice(0, 3)
    .map(([name, p]) => [name, p.toFixed(2)]);
}

function nucleusRows(nucleus: Nucleus): [string, string][] {
  const rows = Object.entries(nucleus)
    .filter(([name, value]) => !LEFT_OUT.has(name) && isCell(value))
    .slice(0, MOST_ROWS)
    .map(([name, value]): [string, string] => [title(name), cell(name, value)]);
  return [["nucleus", `#${nucleus.id}`], ...rows];
}

const isCell = (value: unknown) => ["string", "number", "boolean"].includes(typeof value);

const title = (name: string) =>
  name
    .replace(/_(um2|um)$/, "")
    .replace(/_od$/, " OD")
    .replaceAll("_", " ");

function cell(name: string, value: unknown): string {
  const unit = name.endsWith("_um2") ? " µm²" : name.endsWith("_um") ? " µm" : "";
  return typeof value === "number" ? `${significant(value)}${unit}` : String(value);
}
