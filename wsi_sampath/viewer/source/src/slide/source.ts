// The slide's levels as OpenSeadragon reads them: coarsest first, each with its own scale.
import OpenSeadragon from "openseadragon";
import type { Slide, SlideLevel } from "../server/types";

/** The tile source of a slide. Edge tiles are cut, and scales need not be powers of two. */
export function tileSource(slide: Slide): OpenSeadragon.TileSource {
  const levels = [...slide.levels].reverse();
  const finest = levels.length - 1;
  const at = (level: number) => levels[level] as SlideLevel;
  const source = new OpenSeadragon.TileSource({
    width: slide.width,
    height: slide.height,
    minLevel: 0,
    maxLevel: finest,
    tileOverlap: 0,
  } as OpenSeadragon.TileSourceOptions);
  const tiles = (level: number) =>
    new OpenSeadragon.Point(
      Math.ceil(at(level).width / at(level).tile[0]),
      Math.ceil(at(level).height / at(level).tile[1]),
    );
  return Object.assign(source, {
    getLevelScale: (level: number) => 1 / at(level).scale[0],
    getNumTiles: tiles,
    getTileWidth: (level: number) => at(level).tile[0],
    getTileHeight: (level: number) => at(level).tile[1],
    getTileUrl: (level: number, x: number, y: number) =>
      `/api/slides/${slide.id}/tiles/${finest - level}/${x}_${y}.jpg`,
    getTileBounds: (level: number, x: number, y: number, isSource?: boolean) => {
      const { width, height, scale, tile } = at(level);
      const [left, top] = [x * tile[0], y * tile[1]];
      const [w, h] = [Math.min(tile[0], width - left), Math.min(tile[1], height - top)];
      if (isSource) {
        return new OpenSeadragon.Rect(0, 0, w, h);
      }
      const [sx, sy] = [scale[0] / slide.width, scale[1] / slide.width];
      return new OpenSeadragon.Rect(left * sx, top * sy, w * sx, h * sy);
    },
  });
}
