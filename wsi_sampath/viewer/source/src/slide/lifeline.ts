// What the page says while the server is away, and how it finds back.
import { el } from "../page/dom";
import { count } from "../page/numbers";
import { get } from "../server/api";
import { type Loss, loss } from "../server/connection";
import type { Annotating } from "./annotating";
import type { Scene } from "./scene";

const LOOK_MS = 2500;

const SAID: Record<Loss, string> = {
  unreachable: "wsi-view does not answer. Is it still running?",
  "signed-out":
    "wsi-view was started anew, or this browser signed out: open the link that it printed, in another tab. This page then goes on.",
};

/** A bar that stays while something is amiss; `back` is called when the server is there again. */
export class Lifeline {
  readonly element = el("div", { class: "lifeline", role: "alert", hidden: true });
  private readonly stops: (() => void)[];
  private timer = 0;

  constructor(
    private readonly scene: Scene,
    private readonly annotating: Annotating,
    private readonly back: () => void,
  ) {
    const { session } = annotating;
    const show = () => this.show();
    this.stops = [
      loss.listen((now) => this.heard(now)),
      session.hindrance.listen(show),
      session.waiting.listen(show),
    ];
    // Of its own tiles OpenSeadragon does not say why they failed.
    scene.viewer.addHandler("tile-load-failed", () => this.look());
    this.show();
  }

  private heard(now: Loss | null): void {
    this.show();
    if (now) {
      this.look();
    } else {
      this.back();
    }
  }

  /** Ask for something small, until it is answered. */
  private look(): void {
    if (this.timer) {
      return;
    }
    this.timer = window.setTimeout(async () => {
      await get(`/api/slides/${this.scene.slide.id}`).catch(() => undefined);
      this.timer = 0;
      if (loss.value) {
        this.look();
      }
    }, LOOK_MS);
  }

  private show(): void {
    const { session } = this.annotating;
    const why = loss.value ? SAID[loss.value] : session.hindrance.value;
    const n = session.waiting.value.length;
    const kept = n === 1 ? "One step is not saved yet" : `${count(n)} steps are not saved yet`;
    const text = [why, n ? `${kept}: keep this page open, it tries again.` : null].filter(Boolean).join(" ");
    this.element.hidden = why === null;
    if (this.element.textContent !== text) {
      this.element.textContent = text;
    }
  }

  close(): void {
    window.clearTimeout(this.timer);
    this.timer = -1;
    this.stops.forEach((stop) => stop());
  }
}

/** Ask before a page is left that has what nobody else has. */
export function holdUnsaved(annotating: Annotating): () => void {
  const ask = (event: BeforeUnloadEvent) => {
    if (annotating.unsaved) {
      event.preventDefault();
    }
  };
  window.addEventListener("beforeunload", ask);
  return () => window.removeEventListener("beforeunload", ask);
}
