// The bar over the slide while prompting: progress, the candidate, accept and cancel.
import { textButton } from "../page/controls";
import { el } from "../page/dom";
import { area } from "../page/numbers";
import type { Store } from "../page/store";
import type { Model } from "../server/types";
import { stepText } from "./looking";
import { isEmpty, type PromptDesk } from "./prompting";

export function promptBar(
  desk: PromptDesk,
  model: Model,
  flipped: Store<boolean>,
  accept: () => void,
): HTMLElement {
  const sign = el("span", { class: "prompt-sign" });
  flipped.watch((on) => {
    sign.textContent = on ? "−" : "+";
    sign.title = on ? "A plain click says: not this (T)" : "A plain click says: this (T)";
    sign.classList.toggle("negative", on);
  });
  const text = el("span", { class: "prompt-text", role: "status", "aria-live": "polite" });
  const progress = el("progress", { max: 1, "aria-label": "Looking at the field" });
  const next = textButton("Next (Tab)", () => desk.next(1));
  const yes = textButton("Accept (Enter)", accept, "primary");
  const no = textButton("Cancel (Esc)", () => desk.cancel());
  const bar = el("div", { class: "prompt-bar" }, sign, text, progress, next, yes, no);
  desk.state.watch((state) => {
    const candidate = desk.candidate;
    const n = state.answer?.candidates.length ?? 0;
    progress.hidden = state.state !== "looking";
    const expected = state.look?.expected_seconds;
    if (expected && state.look) {
      progress.value = Math.min(0.97, state.look.seconds / expected);
    } else {
      progress.removeAttribute("value");
    }
    next.hidden = n < 2;
    yes.hidden = !candidate || state.state === "looking" || state.state === "asking";
    no.hidden = isEmpty(state);
    const size = candidate?.area_um2 != null ? ` · ${area(candidate.area_um2 / 1e6)}` : "";
    const which = n > 1 ? `Candidate ${state.chosen + 1} of ${n} · ` : "";
    text.textContent = {
      idle: `${model.name}: click on an object, or drag a box around it`,
      looking: state.look ? stepText(state.look) : "Looking at this field",
      asking: "Asking the model",
      answered: candidate
        ? `${which}IoU ${candidate.quality.toFixed(2)}${size}`
        : "Nothing found here",
      failed: "",
    }[state.state];
    const cut = candidate?.cut ? "cut at the edge of the field" : null;
    text.textContent = [text.textContent, cut, state.message].filter(Boolean).join(" · ");
    bar.classList.toggle("failed", state.state === "failed");
  });
  return bar;
}
