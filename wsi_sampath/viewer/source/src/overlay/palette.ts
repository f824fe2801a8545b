// From the value of a tile's px to its colour: 256 entries, little-endian RGBA.
import { colorOf } from "../page/dom";
import type { ClassValue } from "../server/types";

export type Palette = Uint32Array;

const OPAQUE = 0xff000000;

function packed(color: string): number {
  const rgb = Number.parseInt(colorOf(color).slice(1), 16);
  return (OPAQUE | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
}

/** The classes that are switched on in their colours; everything else is clear. */
export function classPalette(classes: ClassValue[], hidden: ReadonlySet<string>): Palette {
  const palette = new Uint32Array(256);
  for (const { value, name, color } of classes) {
    if (!hidden.has(name)) {
      palette[value] = packed(color);
    }
  }
  return palette;
}

// Viridis at even steps: it differs from stained tissue everywhere, and is read by the colour-blind.
export const HEAT = ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"];

/** Probability 0..255 as heat; what is unlikely fades out. */
export function heatPalette(): Palette {
  const stops = HEAT.map((color) => Number.parseInt(color.slice(1), 16));
  return Uint32Array.from({ length: 256 }, (_, value) => {
    const at = (value / 255) * (stops.length - 1);
    const step = Math.min(stops.length - 2, Math.floor(at));
    const [from, to] = [stops[step] as number, stops[step + 1] as number];
    const mixed = (shift: number) => {
      const [a, b] = [(from >> shift) & 0xff, (to >> shift) & 0xff];
      return Math.round(a + (b - a) * (at - step));
    };
    const alpha = Math.min(255, Math.round(value * 1.6));
    return ((alpha << 24) | (mixed(0) << 16) | (mixed(8) << 8) | mixed(16)) >>> 0;
  });
}
