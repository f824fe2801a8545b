// The pointer over the slide while panning: hover, and a click that selects.
import { isTyping } from "../page/dom";
import type { Store } from "../page/store";
import type { ToolName } from "../tools/surface";
import type { Annotating } from "./annotating";
import type { Hover } from "./hover";
import type { Scene } from "./scene";

/** Ask what is under the pointer while no tool draws and nothing is pressed. */
export function watchHover(scene: Scene, hover: Hover, tool: Store<ToolName>): void {
  const { stage } = scene;
  stage.addEventListener("pointermove", (event) => {
    if (tool.value === "pan" && event.buttons === 0) {
      hover.over(event);
    } else {
      hover.hide();
    }
  });
  stage.addEventListener("pointerleave", () => hover.hide());
  stage.addEventListener("pointerdown", () => hover.hide());
  scene.onMove(() => hover.hide());
}

export function watchSelection(scene: Scene, annotating: Annotating): void {
  scene.viewer.addHandler("canvas-click", (event) => {
    if (event.quick && event.originalEvent) {
      annotating.select(scene.at(event.originalEvent as MouseEvent));
    }
  });
}

/** Space held means panning; `told` hears when that begins and ends. */
export function holdSpace(told: (held: boolean) => void): () => void {
  const control = new AbortController();
  const { signal } = control;
  const change = (held: boolean) => (event: KeyboardEvent) => {
    const onControl =
      event.target instanceof HTMLElement && event.target.matches("button, a, input, summary");
    if (event.key === " " && !isTyping(event.target) && !onControl) {
      event.preventDefault();
      told(held);
    }
  };
  document.addEventListener("keydown", change(true), { signal });
  document.addEventListener("keyup", change(false), { signal });
  window.addEventListener("blur", () => told(false), { signal });
  return () => control.abort();
}
