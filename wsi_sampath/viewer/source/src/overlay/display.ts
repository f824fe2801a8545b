// How results are shown: one value, which panels change and the painter reads.
import { Store } from "../page/store";
import type { Result, Slide } from "../server/types";

export type Mode = "fill" | "contours" | "heat" | "off";
export type Compare = "none" | "blink" | "curtain";

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

/** What a slide's results start as, with those that a link asked for. */
export function displayOf(slide: Slide, asked: string[]): Store<Display> {
  const known = asked.filter((id) => slide.results.some((result) => result.id === id));
  const first = known[0] ?? slide.results[0]?.id ?? null;
  const second = known[1] ?? slide.results.find(({ id }) => id !== first)?.id ?? null;
  return new Store<Display>({
    first,
    second,
    mode: "fill",
    heat: null,
    opacity: 0.45,
    hidden: new Set(),
    nuclei: true,
    compare: "none",
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
