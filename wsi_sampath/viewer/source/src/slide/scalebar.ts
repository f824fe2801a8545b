// A bar of a round length, in µm or mm, or in px where the slide does not know its scale.
import { el } from "../page/dom";
import { count, length, significant } from "../page/numbers";
import type { Scene } from "./scene";

const LONGEST = 160;

/** The largest 1, 2 or 5 times a power of ten that is not above `most`. */
export function roundBelow(most: number): number {
  const power = 10 ** Math.floor(Math.log10(most));
  return ([5, 2, 1].find((digit) => digit * power <= most) ?? 1) * power;
}

/** The bar and, beside it, how much a screen px shows. */
export function scaleBar(scene: Scene): HTMLElement {
  const bar = el("span", { class: "scale-bar" });
  const label = el("span", { class: "scale-length" });
  const zoom = el("span", { class: "scale-zoom" });
  const box = el("div", { class: "scale", role: "img" }, el("div", {}, label, bar), zoom);
  const mpp = scene.slide.mpp?.[0] ?? null;
  scene.onMove(() => {
    const perPixel = (mpp ?? 1) / scene.frame.scale;
    const shown = roundBelow(LONGEST * perPixel);
    bar.style.width = `${shown / perPixel}px`;
    label.textContent = mpp === null ? `${count(shown)} px` : length(shown);
    zoom.textContent =
      mpp === null
        ? `${significant(1 / perPixel)}× level 0`
        : `${significant(perPixel)} µm/px · ${significant(10 / perPixel, 2)}×`;
    box.setAttribute("aria-label", `Scale bar: ${label.textContent}; ${zoom.textContent}`);
  });
  return box;
}
