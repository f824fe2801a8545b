// A layer's tiles on a canvas: filled by a palette, or as contours.
import { Lru } from "../page/lru";
import type { Box, Frame } from "../slide/scene";
import type { Layer } from "../server/types";
import { contoursOf } from "./contours";
import { levelFor, type Tile, tileBox, tilesIn } from "./levels";
import type { Palette } from "./palette";
import type { Values, ValueTiles } from "./tiles";

const MOST_COLOURED = 260;
const MOST_CONTOURS = 260;

export interface Raster {
  layer: Layer;
  /** Address of a tile. */
  url: (tile: Tile) => string;
  smooth: boolean;
}

/** Where a box of level-0 px lies on the screen in whole device px, so that tiles meet exactly. */
function onScreen(frame: Frame, box: Box, ratio: number): [number, number, number, number] {
  const x0 = Math.round((box.x - frame.x) * frame.scale * ratio);
  const y0 = Math.round((box.y - frame.y) * frame.scale * ratio);
  const x1 = Math.round((box.x + box.width - frame.x) * frame.scale * ratio);
  const y1 = Math.round((box.y + box.height - frame.y) * frame.scale * ratio);
  return [x0, y0, x1 - x0, y1 - y0];
}

export class RasterPainter {
  private readonly coloured = new Lru<{ palette: Palette; canvas: OffscreenCanvas }>(MOST_COLOURED);
  private readonly lines = new Lru<Map<number, Path2D>>(MOST_CONTOURS);

  constructor(private readonly tiles: ValueTiles) {}

  /** The addresses that a view wants, the most wanted first. */
  wanted(raster: Raster, frame: Frame, visible: Box): string[] {
    const { layer } = raster;
    const coarsest = layer.levels.length - 1;
    const level = levelFor(layer, frame.scale);
    const own = tilesIn(layer, level, visible);
    const spare = level === coarsest ? [] : tilesIn(layer, coarsest, visible).slice(0, 4);
    return [...own, ...spare].map(raster.url);
  }

  /** Fill the view: coarser levels first where the right one is not here yet. */
  fill(
    context: CanvasRenderingContext2D,
    raster: Raster,
    palette: Palette,
    frame: Frame,
    visible: Box,
    ratio: number,
  ): void {
    const { layer } = raster;
    const level = levelFor(layer, frame.scale);
    const own = tilesIn(layer, level, visible);
    const missing = own.some((tile) => !this.tiles.get(raster.url(tile)));
    context.imageSmoothingEnabled = raster.smooth;
    for (let at = missing ? layer.levels.length - 1 : level; at >= level; at--) {
      for (const tile of at === level ? own : tilesIn(layer, at, visible)) {
        const values = this.tiles.get(raster.url(tile));
        if (values) {
          const box = tileBox(layer, tile, values.width, values.height);
          const [x, y, width, height] = onScreen(frame, box, ratio);
          context.clearRect(x, y, width, height);
          context.drawImage(this.colour(raster.url(tile), values, palette), x, y, width, height);
        }
      }
    }
  }

  private colour(url: string, values: Values, palette: Palette): OffscreenCanvas {
    const known = this.coloured.get(url);
    if (known?.palette === palette) {
      return known.canvas;
    }
    const canvas = known?.canvas ?? new OffscreenCanvas(values.width, values.height);
    const image = new ImageData(values.width, values.height);
    const rgba = new Uint32Array(image.data.buffer);
    values.bytes.forEach((value, index) => {
      rgba[index] = palette[value] as number;
    });
    canvas.getContext("2d")?.putImageData(image, 0, 0);
    this.coloured.set(url, { palette, canvas });
    return canvas;
  }

  /** Draw the borders of the classes that the colours name. */
  contours(
    context: CanvasRenderingContext2D,
    raster: Raster,
    colors: Map<number, string>,
    frame: Frame,
    visible: Box,
    ratio: number,
  ): void {
    const { layer } = raster;
    const level = levelFor(layer, frame.scale);
    for (const tile of tilesIn(layer, level, visible)) {
      const values = this.tiles.get(raster.url(tile));
      if (!values) {
        continue;
      }
      const box = tileBox(layer, tile, values.width, values.height);
      const [sx, sy] = [(box.width / values.width) * frame.scale, (box.height / values.height) * frame.scale];
      context.setTransform(
        sx * ratio,
        0,
        0,
        sy * ratio,
        (box.x - frame.x) * frame.scale * ratio,
        (box.y - frame.y) * frame.scale * ratio,
      );
      context.lineWidth = 1.6 / sx;
      for (const [value, path] of this.contoursOf(raster.url(tile), values)) {
        const color = colors.get(value);
        if (color) {
          context.strokeStyle = color;
          context.stroke(path);
        }
      }
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  private contoursOf(url: string, values: Values): Map<number, Path2D> {
    const known = this.lines.get(url) ?? contoursOf(values);
    this.lines.set(url, known);
    return known;
  }

  clear(): void {
    this.coloured.clear();
    this.lines.clear();
  }
}
