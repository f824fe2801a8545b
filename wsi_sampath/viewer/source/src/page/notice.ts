// Short messages at the foot of the page, read out by screen readers.
import { el } from "./dom";

const SHOWN_MS = 6000;

export class Notices {
  readonly element = el("div", { class: "notices", role: "status", "aria-live": "polite" });
  private timer = 0;

  say(text: string, kind: "info" | "error" = "info"): void {
    this.element.replaceChildren(el("p", { class: `notice ${kind}`, text }));
    window.clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.element.replaceChildren(), SHOWN_MS);
  }
}
