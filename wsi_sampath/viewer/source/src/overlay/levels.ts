// Which level of a layer a view needs, and which of its tiles.
import type { Box } from "../slide/scene";
import type { Layer, LayerLevel } from "../server/types";

export interface Tile {
  level: number;
  column: number;
  row: number;
}

/** The coarsest level that is no coarser than the screen, or the finest there is. */
export function levelFor(layer: Layer, scale: number): number {
  const perScreenPx = 1.25 / scale;
  let best = 0;
  layer.levels.forEach((level, index) => {
    if (level.scale[0] <= perScreenPx) {
      best = index;
    }
  });
  return best;
}

/** The tiles of a level that a box of level-0 px touches, the middle first. */
export function tilesIn(layer: Layer, level: number, box: Box): Tile[] {
  const { width, height, scale, origin } = layer.levels[level] as LayerLevel;
  const [sx, sy] = [scale[0] * layer.tile, scale[1] * layer.tile];
  const span = (from: number, size: number, side: number, most: number) => [
    Math.max(0, Math.floor(from / side)),
    Math.min(Math.ceil(most / layer.tile) - 1, Math.floor((from + size) / side)),
  ];
  const [left, right] = span(box.x - origin[0], box.width, sx, width) as [number, number];
  const [top, bottom] = span(box.y - origin[1], box.height, sy, height) as [number, number];
  const tiles: Tile[] = [];
  for (let row = top; row <= bottom; row++) {
    for (let column = left; column <= right; column++) {
      tiles.push({ level, column, row });
    }
  }
  const off = ({ column, row }: Tile) =>
    Math.abs(column - (left + right) / 2) + Math.abs(row - (top + bottom) / 2);
  return tiles.sort((a, b) => off(a) - off(b));
}

/** The level-0 box that a tile of these px covers. */
export function tileBox(layer: Layer, tile: Tile, width: number, height: number): Box {
  const { scale, origin } = layer.levels[tile.level] as LayerLevel;
  return {
    x: origin[0] + tile.column * layer.tile * scale[0],
    y: origin[1] + tile.row * layer.tile * scale[1],
    width: width * scale[0],
    height: height * scale[1],
  };
}
