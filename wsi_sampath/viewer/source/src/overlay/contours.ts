// The borders of classes within a tile, as lines along the edges of its px.
import type { Values } from "./tiles";

/** For each class of the tile, the lines that run around its px; a class lies on its own side. */
export function contoursOf({ width, height, bytes }: Values): Map<number, Path2D> {
  const paths = new Map<number, Path2D>();
  const line = (value: number, x0: number, y0: number, x1: number, y1: number) => {
    if (value === 0) {
      return;
    }
    let path = paths.get(value);
    if (!path) {
      path = new Path2D();
      paths.set(value, path);
    }
    path.moveTo(x0, y0);
    path.lineTo(x1, y1);
  };
  borders(bytes, width, height, line);
  return paths;
}

type Line = (value: number, x0: number, y0: number, x1: number, y1: number) => void;

/** Straight runs of the same border are one line, which keeps the paths short. */
function borders(bytes: Uint8Array, width: number, height: number, line: Line): void {
  const at = (x: number, y: number) => bytes[y * width + x] as number;
  for (let y = 1; y < height; y++) {
    for (let x = 0; x < width; ) {
      const [above, below] = [at(x, y - 1), at(x, y)];
      let end = x + 1;
      while (end < width && at(end, y - 1) === above && at(end, y) === below) {
        end++;
      }
      if (above !== below) {
        line(above, x, y, end, y);
        line(below, x, y, end, y);
      }
      x = end;
    }
  }
  for (let x = 1; x < width; x++) {
    for (let y = 0; y < height; ) {
      const [left, right] = [at(x - 1, y), at(x, y)];
      let end = y + 1;
      while (end < height && at(x - 1, end) === left && at(x, end) === right) {
        end++;
      }
      if (left !== right) {
        line(left, x, y, x, end);
        line(right, x, y, x, end);
      }
      y = end;
    }
  }
}
