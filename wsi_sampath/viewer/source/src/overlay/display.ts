// How results are shown: one value, which panels change and the painter reads.
import type { View } from "../page/address";
import { Store } from "../page/store";
import type { Result, Slide } from "../server/types";

const MODES = ["fill", "contours", "heat", "off"] as const;
const COMPARISONS = ["none", "blink", "curtain"] as const;
export type Mode = (typeof MODES)[number];
export type Compare = (typeof COMPARISONS)[number];

export interface Display {
  /** Ids of the result shown and of the one it is compared with (null: the bare slide). */
  first: string | null;
  second: string | null;
  mode: Mode;
  /** The class whose probability is the heat. */
  heat: string | null;
  opacity: number;
  /** Names of the classes that are switched off. */
  hidden: ReadonlySet<string>;
  nuclei: boolean;
  compare: Compare;
  /** Where the curtain hangs, 0 left to 1 right. */
  curtain: number;
  /** Whether blinking shows the second. */
  other: boolean;
}

/** What a slide's results start as, or what a link asked for. */
export function displayOf(slide: Slide, view: View): Store<Display> {
  const known = view.results.filter((id) => slide.results.some((result) => result.id === id));
  const first = known[0] ?? slide.results[0]?.id ?? null;
  const compare = COMPARISONS.find((name) => name === view.compare) ?? "none";
  const other = slide.results.find(({ id }) => id !== first)?.id ?? null;
  const second = known[1] ?? (compare === "none" ? other : null);
  return new Store<Display>({
    first,
    second,
    mode: MODES.find((name) => name === view.show) ?? "fill",
    heat: null,
    opacity: 0.45,
    hidden: new Set(),
    nuclei: true,
    compare,
    curtain: 0.5,
    other: false,
  });
}

export function resultOf(slide: Slide, id: string | null): Result | null {
  return slide.results.find((result) => result.id === id) ?? null;
}

/** The results on the screen, for the link. */
export function shownIds(display: Display): string[] {
  const ids = display.compare === "none" ? [display.first] : [display.first, display.second];
  return ids.filter((id) => id !== null);
}

/** How they are shown, for the link; null where that is the usual way. */
export function manner({ mode, compare }: Display): Pick<View, "show" | "compare"> {
  return { show: mode === "fill" ? null : mode, compare: compare === "none" ? null : compare };
}

/** The result at a place of the view, from 0 at its left edge to 1 at its right one. */
export function resultAt(display: Display, across: number): string | null {
  if (display.mode === "off") {
    return null;
  }
  const beyond = display.compare === "curtain" && across > display.curtain;
  return beyond ? display.second : spoken(display);
}

/** The result that panels speak of. */
export function spoken(display: Display): string | null {
  return display.compare === "blink" && display.other ? display.second : display.first;
}
