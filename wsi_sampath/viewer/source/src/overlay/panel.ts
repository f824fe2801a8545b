// The side panel's part about results: which, how, and against what.
import { channelNames } from "./painter";
import { checkbox, Segments, Select, section } from "../page/controls";
import { el } from "../page/dom";
import type { Store } from "../page/store";
import type { Slide } from "../server/types";
import { type Compare, type Display, type Mode, resultOf } from "./display";

const MODES: { value: Mode; text: string; title: string }[] = [
  { value: "fill", text: "Classes", title: "Filled areas" },
  { value: "contours", text: "Contours", title: "Only the borders of the classes" },
  { value: "heat", text: "Probability", title: "Probability of one class" },
  { value: "off", text: "Off", title: "The bare slide" },
];
const COMPARISONS: { value: Compare; text: string; title: string }[] = [
  { value: "none", text: "Off", title: "One result" },
  { value: "curtain", text: "Curtain", title: "Two results, left and right of an edge (C)" },
  { value: "blink", text: "Blink", title: "Two results in turn (B)" },
];

const field = (text: string, control: Node) =>
  el("div", { class: "field" }, el("span", { class: "field-name", text }), control);

export function resultPanel(slide: Slide, display: Store<Display>): HTMLElement {
  const names = slide.results.map(({ id, name }) => ({ value: id, text: name }));
  const first = new Select("Result", (id) => display.change(chosenFirst(slide, display.value, id)));
  const second = new Select("Compared with", (id) => display.change({ second: id || null }));
  const modes = new Segments("How the result is shown", MODES, (mode) => display.change({ mode }));
  const compare = new Segments("Compare", COMPARISONS, (way) =>
    display.change({ compare: way, other: false }),
  );
  const heat = new Select("Class of the probability", (name) => display.change({ heat: name }));
  const legend = el(
    "div",
    { class: "heat-legend", "aria-hidden": "true" },
    el("span", { text: "0" }),
    el("span", { class: "heat-ramp" }),
    el("span", { text: "1" }),
  );
  const heatRow = el("div", {}, field("Class", heat.element), legend);
  const opacity = opacitySlider(display);
  const nuclei = checkbox("Outlines of nuclei", (on) => display.change({ nuclei: on }));
  const secondRow = field("With", second.element);
  display.watch((state) => {
    const result = resultOf(slide, state.first);
    const maps = result?.layers.find(({ kind }) => kind === "probabilities");
    const channels = maps ? channelNames(maps) : [];
    first.show(names, state.first ?? "");
    const others = names.filter(({ value }) => value !== state.first);
    second.show([{ value: "", text: "the bare slide" }, ...others], state.second ?? "");
    modes.value = state.mode;
    modes.enable("heat", channels.length > 0);
    compare.value = state.compare;
    heat.show(
      channels.map((name) => ({ value: name, text: name })),
      channels.includes(state.heat ?? "") ? (state.heat as string) : (channels[0] ?? ""),
    );
    heatRow.hidden = state.mode !== "heat";
    secondRow.hidden = state.compare === "none";
    nuclei.element.hidden = !result?.nuclei;
    nuclei.input.checked = state.nuclei;
  });
  return section(
    "Result",
    true,
    names.length > 1 ? first.element : el("p", { class: "only-name", text: names[0]?.text ?? "" }),
    modes.element,
    heatRow,
    opacity,
    nuclei.element,
    field("Compare", compare.element),
    secondRow,
  );
}

/** No result is compared with itself, and no probability is asked of one that has none. */
function chosenFirst(slide: Slide, { first, second, mode }: Display, id: string): Partial<Display> {
  const likely = resultOf(slide, id)?.layers.some(({ kind }) => kind === "probabilities");
  return {
    first: id,
    second: second === id ? first : second,
    mode: mode === "heat" && !likely ? "fill" : mode,
  };
}

function opacitySlider(display: Store<Display>): HTMLElement {
  const slider = el("input", {
    type: "range",
    min: 0,
    max: 100,
    step: 5,
    "aria-label": "Opacity of the overlay",
  });
  const shown = el("output", {});
  slider.addEventListener("input", () => display.change({ opacity: Number(slider.value) / 100 }));
  display.watch(({ opacity }) => {
    slider.value = String(Math.round(opacity * 100));
    shown.textContent = `${Math.round(opacity * 100)} %`;
  });
  return field("Opacity", el("div", { class: "slider" }, slider, shown));
}
