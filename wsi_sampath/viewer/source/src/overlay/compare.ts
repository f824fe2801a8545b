// Two results in turn, or left and right of an edge that is dragged.
import { calm, el } from "../page/dom";
import type { Store } from "../page/store";
import type { Slide } from "../server/types";
import { type Display, resultOf } from "./display";

const BLINK_MS = 700;
const KEY_STEP = 0.02;

const within = (at: number) => Math.min(1, Math.max(0, at));

/** The edge of the curtain, with the names of what hangs on either side. */
export function curtainEdge(slide: Slide, display: Store<Display>, stage: HTMLElement): HTMLElement {
  const left = el("span", { class: "curtain-name left" });
  const right = el("span", { class: "curtain-name right" });
  const edge = el(
    "div",
    {
      class: "curtain",
      role: "slider",
      tabindex: 0,
      "aria-label": "Edge between the two results",
      "aria-valuemin": 0,
      "aria-valuemax": 100,
    },
    left,
    el("span", { class: "curtain-grip" }),
    right,
  );
  edge.addEventListener("pointerdown", (event) => edge.setPointerCapture(event.pointerId));
  edge.addEventListener("pointermove", (event) => {
    if (edge.hasPointerCapture(event.pointerId)) {
      const box = stage.getBoundingClientRect();
      display.change({ curtain: within((event.clientX - box.left) / box.width) });
    }
  });
  edge.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -KEY_STEP, ArrowRight: KEY_STEP }[event.key];
    if (step) {
      event.preventDefault();
      display.change({ curtain: within(display.value.curtain + step) });
    }
  });
  const nameOf = (id: string | null) => resultOf(slide, id)?.name ?? "the bare slide";
  display.watch((state) => {
    edge.hidden = state.compare !== "curtain" || state.mode === "off";
    edge.style.left = `${state.curtain * 100}%`;
    edge.setAttribute("aria-valuenow", String(Math.round(state.curtain * 100)));
    left.textContent = nameOf(state.first);
    right.textContent = nameOf(state.second);
  });
  return edge;
}

/** Blinks while that is chosen; by hand (B) for those who want no motion. */
export class Blinker {
  readonly label = el("div", { class: "blink-name", "aria-live": "off" });
  private timer = 0;

  constructor(
    private readonly slide: Slide,
    private readonly display: Store<Display>,
  ) {
    display.watch((state) => {
      this.label.hidden = state.compare !== "blink" || state.mode === "off";
      const shown = resultOf(slide, state.other ? state.second : state.first);
      this.label.textContent = shown?.name ?? "the bare slide";
      const runs = state.compare === "blink" && !calm.matches;
      if (runs && !this.timer) {
        this.timer = window.setInterval(() => this.turn(), BLINK_MS);
      } else if (!runs && this.timer) {
        this.close();
      }
    });
  }

  private turn(): void {
    this.display.change({ other: !this.display.value.other });
  }

  /** B: start to blink, and stop; without motion, show the other one. */
  press(): void {
    const { compare } = this.display.value;
    if (compare !== "blink") {
      this.display.change({ compare: "blink", other: this.slide.results.length > 0 });
    } else if (calm.matches) {
      this.turn();
    } else {
      this.display.change({ compare: "none", other: false });
    }
  }

  close(): void {
    window.clearInterval(this.timer);
    this.timer = 0;
  }
}
