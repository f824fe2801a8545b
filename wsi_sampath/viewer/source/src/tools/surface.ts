// Takes the pointer while a tool other than panning is chosen, and hands it on in level-0 px.
import { el } from "../page/dom";
import type { Store } from "../page/store";
import type { Point } from "../server/types";
import type { Scene } from "../slide/scene";

export type ToolName = "pan" | "point" | "freehand" | "polygon" | "rectangle" | "edit";

export interface Press {
  at: Point;
  /** Shift, Alt or the right button. */
  negative: boolean;
  /** Whether it is on the slide; `at` is the nearest place that is. */
  inside: boolean;
}

/** What a tool does with the pointer; all positions in level-0 px. */
export interface Tool {
  click?: (press: Press) => void;
  doubleClick?: () => void;
  /** May refuse the drag, which then pans. */
  dragStart?: (press: Press) => boolean;
  dragMove?: (to: Point) => void;
  dragEnd?: (to: Point) => void;
  dragStop?: () => void;
  hover?: (at: Point) => void;
}

const DRAG_FROM_PX = 4;

interface Held {
  start: PointerEvent;
  last: PointerEvent;
  kind: "click" | "drag" | "pan";
}

export class Surface {
  readonly element = el("div", { class: "surface", "aria-hidden": "true" });
  private held: Held | null = null;
  private space = false;

  constructor(
    private readonly scene: Scene,
    private readonly chosen: Store<ToolName>,
    private readonly tools: Partial<Record<ToolName, Tool>>,
  ) {
    this.element.addEventListener("pointerdown", (event) => this.down(event));
    this.element.addEventListener("pointermove", (event) => this.move(event));
    this.element.addEventListener("pointerup", (event) => this.up(event));
    this.element.addEventListener("pointercancel", () => this.stop());
    this.element.addEventListener("dblclick", () => this.tool?.doubleClick?.());
    this.element.addEventListener("contextmenu", (event) => event.preventDefault());
    this.element.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.scene.wheel(event);
      },
      { passive: false },
    );
    chosen.watch(() => {
      this.stop();
      this.show();
    });
  }

  /** While Space is held every tool pans. */
  set panning(on: boolean) {
    this.space = on;
    this.show();
  }

  private get tool(): Tool | undefined {
    return this.tools[this.chosen.value];
  }

  private show(): void {
    this.element.hidden = this.chosen.value === "pan";
    this.element.dataset["tool"] = this.space ? "pan" : this.chosen.value;
  }

  /** Click in the middle of the view, for those without a pointer. */
  pressCentre(negative: boolean): void {
    const { x, y } = this.scene.centre;
    this.tool?.click?.({ at: this.scene.nearest([x, y]), negative, inside: this.scene.inside([x, y]) });
  }

  private press(event: PointerEvent): Press {
    const negative = event.shiftKey || event.altKey || event.button === 2;
    return { at: this.place(event), negative, inside: this.scene.inside(this.scene.at(event)) };
  }

  /** Nothing is drawn beyond the edge of the slide. */
  private place(event: PointerEvent): Point {
    return this.scene.nearest(this.scene.at(event));
  }

  private down(event: PointerEvent): void {
    if (this.held) {
      return;
    }
    event.preventDefault();
    // The keys are the tool's from now on, not those of what was typed in last.
    (document.activeElement as HTMLElement | null)?.blur();
    this.element.setPointerCapture(event.pointerId);
    const pan = this.space || event.button === 1;
    this.held = { start: event, last: event, kind: pan ? "pan" : "click" };
  }

  private move(event: PointerEvent): void {
    const { held } = this;
    if (!held) {
      this.tool?.hover?.(this.place(event));
      return;
    }
    const { start, last } = held;
    const far = Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY);
    if (held.kind === "click" && far > DRAG_FROM_PX) {
      const takes = start.button === 0 && this.tool?.dragStart?.(this.press(start));
      held.kind = takes ? "drag" : "pan";
    }
    if (held.kind === "drag") {
      this.tool?.dragMove?.(this.place(event));
    } else if (held.kind === "pan") {
      this.scene.drag(event.clientX - last.clientX, event.clientY - last.clientY);
    }
    held.last = event;
  }

  private up(event: PointerEvent): void {
    const { held } = this;
    this.held = null;
    if (held?.kind === "click") {
      this.tool?.click?.(this.press(held.start));
    } else if (held?.kind === "drag") {
      this.tool?.dragEnd?.(this.place(event));
    }
  }

  private stop(): void {
    if (this.held?.kind === "drag") {
      this.tool?.dragStop?.();
    }
    this.held = null;
  }
}
