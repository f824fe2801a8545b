// The classes: their colours, a switch for each, and how much of each is in view or on the slide.
import { Segments, section } from "../page/controls";
import { el, swatch } from "../page/dom";
import { area, count, percent } from "../page/numbers";
import { Store } from "../page/store";
import { debounced } from "../page/timing";
import { get, isAbort } from "../server/api";
import type { ClassValue, Field, Result } from "../server/types";
import type { Scene } from "../slide/scene";
import { type Display, resultOf } from "./display";

const SETTLED_MS = 250;

type Extent = "view" | "slide";

interface Amount {
  area: number | null;
  percent: number | null;
  count: number | null;
}

interface Amounts {
  of: Map<string, Amount>;
  note: string;
}

/** Asks for the amounts in view once the view has come to rest. */
class FieldAsker {
  readonly field = new Store<Field | null>(null);
  private control = new AbortController();
  readonly soon = debounced(SETTLED_MS, () => void this.ask());

  constructor(
    private readonly scene: Scene,
    private readonly display: Store<Display>,
  ) {}

  private async ask(): Promise<void> {
    this.control.abort();
    const control = new AbortController();
    this.control = control;
    const id = this.display.value.first;
    const { x, y, width, height } = this.scene.visible;
    if (!id || width < 1 || height < 1) {
      this.field.value = null;
      return;
    }
    const box = { x, y, width, height };
    const query = new URLSearchParams(
      Object.entries(box).map(([name, value]) => [name, value.toFixed(1)]),
    );
    try {
      this.field.value = await get<Field>(`/api/results/${id}/field?${query}`, control.signal);
    } catch (error) {
      if (!isAbort(error)) {
        this.field.value = null;
      }
    }
  }

  close(): void {
    this.control.abort();
  }
}

function viewAmounts(field: Field | null): Amounts {
  const of = new Map<string, Amount>();
  for (const item of field?.classes ?? []) {
    of.set(item.name, { area: item.area_mm2, percent: item.percent, count: item.count });
  }
  const notes = [
    field?.analysed_mm2 != null ? `${area(field.analysed_mm2)} analysed` : null,
    field?.nuclei != null ? `${count(field.nuclei)} nuclei` : null,
    field?.per_mm2 != null ? `${count(Math.round(field.per_mm2))} per mm²` : null,
    field?.approximate ? "approximate" : null,
  ];
  return { of, note: notes.filter((note) => note !== null).join(" · ") };
}

function slideAmounts(result: Result): Amounts {
  const whole = result.analysed_mm2 ?? 0;
  const of = new Map<string, Amount>();
  for (const { name } of result.classes) {
    const mm2 = result.areas_mm2?.[name] ?? null;
    const share = mm2 !== null && whole > 0 ? (100 * mm2) / whole : null;
    of.set(name, { area: mm2, percent: share, count: result.counts?.[name] ?? null });
  }
  const nuclei = Object.values(result.counts ?? {}).reduce((sum, n) => sum + n, 0);
  const notes = [
    result.analysed_mm2 !== null ? `${area(result.analysed_mm2)} analysed` : null,
    result.nuclei && nuclei ? `${count(nuclei)} nuclei` : null,
  ];
  return { of, note: notes.filter((note) => note !== null).join(" · ") };
}

export class ClassPanel {
  readonly element: HTMLElement;
  private readonly asker: FieldAsker;
  private readonly body = el("tbody", {});
  private readonly counted = el("th", { scope: "col", text: "Nuclei" });
  private readonly note = el("p", { class: "note", "aria-live": "off" });
  private extent: Extent = "view";
  private rows: string | null = null;
  private switches = new Map<string, HTMLInputElement>();
  private cells = new Map<string, HTMLTableCellElement[]>();

  constructor(
    private readonly scene: Scene,
    private readonly display: Store<Display>,
  ) {
    this.asker = new FieldAsker(scene, display);
    const extents = new Segments<Extent>(
      "Amounts",
      [
        { value: "view", text: "In view" },
        { value: "slide", text: "Whole slide" },
      ],
      (extent) => {
        this.extent = extent;
        this.show();
      },
    );
    extents.value = "view";
    const head = el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col", text: "Class" }),
        el("th", { scope: "col", text: "Area" }),
        el("th", { scope: "col", text: "Share" }),
        this.counted,
      ),
    );
    const table = el("table", { class: "classes" }, head, this.body);
    this.element = section("Classes", true, extents.element, table, this.note);
    scene.onMove(this.asker.soon);
    this.asker.field.listen(() => this.show());
    // Of the first result also while two are shown in turn, or the panel would blink as well.
    let told: string | null = null;
    display.watch(({ first }) => {
      if (first !== told) {
        told = first;
        this.asker.field.value = null;
        this.asker.soon();
      }
      this.show();
    });
  }

  private show(): void {
    const result = resultOf(this.scene.slide, this.display.value.first);
    this.element.hidden = result === null;
    if (!result) {
      return;
    }
    if (this.rows !== result.id) {
      this.build(result);
    }
    const amounts =
      this.extent === "view" ? viewAmounts(this.asker.field.value) : slideAmounts(result);
    this.note.textContent = amounts.note;
    this.counted.hidden = !result.nuclei;
    for (const { name } of result.classes) {
      this.fill(name, amounts.of.get(name) ?? null, result.nuclei);
    }
  }

  private fill(name: string, amount: Amount | null, nuclei: boolean): void {
    const on = this.switches.get(name);
    if (on) {
      on.checked = !this.display.value.hidden.has(name);
    }
    const [areaCell, share, counted] = this.cells.get(name) ?? [];
    if (areaCell && share && counted) {
      areaCell.textContent = amount?.area == null ? "–" : area(amount.area);
      share.textContent = amount?.percent == null ? "–" : percent(amount.percent);
      counted.textContent = amount?.count == null ? "–" : count(amount.count);
      counted.hidden = !nuclei;
    }
  }

  private build(result: Result): void {
    this.rows = result.id;
    this.switches = new Map();
    this.cells = new Map();
    this.body.replaceChildren(...result.classes.map((item) => this.row(item)));
  }

  private row({ name, color }: ClassValue): HTMLTableRowElement {
    const input = el("input", { type: "checkbox", "aria-label": `Show ${name}` });
    input.addEventListener("change", () => this.toggle(name, input.checked));
    this.switches.set(name, input);
    const cells = [el("td", {}), el("td", {}), el("td", {})];
    this.cells.set(name, cells);
    const label = el("label", { class: "check" }, input, swatch(color), el("span", { text: name, title: name }));
    return el("tr", {}, el("th", { scope: "row" }, label), ...cells);
  }

  private toggle(name: string, shown: boolean): void {
    const hidden = new Set(this.display.value.hidden);
    if (shown) {
      hidden.delete(name);
    } else {
      hidden.add(name);
    }
    this.display.change({ hidden });
  }

  again(): void {
    this.asker.soon();
  }

  close(): void {
    this.asker.close();
  }
}
