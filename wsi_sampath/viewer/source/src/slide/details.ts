// The side panel's part about the slide itself.
import { section } from "../page/controls";
import { el } from "../page/dom";
import { count, length, significant } from "../page/numbers";
import type { Slide } from "../server/types";

export function slideDetails(slide: Slide): HTMLElement {
  const { width, height, mpp } = slide;
  const rows: [string, string][] = [["Size", `${count(width)} × ${count(height)} px`]];
  if (mpp) {
    rows.push(["", `${length(width * mpp[0])} × ${length(height * mpp[1])}`]);
    const same = Math.abs(mpp[0] - mpp[1]) < 1e-4 * mpp[0];
    const value = same ? significant(mpp[0], 4) : mpp.map((m) => significant(m, 4)).join(" × ");
    rows.push(["Scale", `${value} µm/px (${slide.mpp_source})`]);
  } else {
    rows.push(["Scale", "unknown: lengths are in px"]);
  }
  rows.push(["Reader", slide.reader]);
  const list = el("dl", { class: "details" });
  for (const [name, value] of rows) {
    list.append(el("dt", { text: name }), el("dd", { text: value }));
  }
  const warnings = slide.warnings.map((text) => el("p", { class: "warning", text }));
  return section("Slide", slide.results.length === 0 || warnings.length > 0, ...warnings, list);
}
