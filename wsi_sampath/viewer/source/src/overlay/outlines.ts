// Nuclei as the server packs them: squares of 2048 level-0 px, outlines relative to their corner.
import { Lru } from "../page/lru";
import { isAbort, request } from "../server/api";
import type { Box } from "../slide/scene";

export const SQUARE = 2048;
const MOST_SQUARES = 96;
const AT_ONCE = 3;
// A square that failed is asked for again after this long.
const RETRY_MS = 4000;

export interface Square {
  x: number;
  y: number;
  /** One path for each class. */
  paths: Map<number, Path2D>;
}

/** Read a square: n, v; then ids, classes, starts, and the points. */
export function unpacked(buffer: ArrayBuffer, x: number, y: number): Square {
  const [n = 0, v = 0] = new Uint32Array(buffer, 0, 2);
  const classes = new Uint32Array(buffer, 8 + 4 * n, n);
  const starts = new Uint32Array(buffer, 8 + 8 * n, n + 1);
  const xy = new Float32Array(buffer, 8 + 8 * n + 4 * (n + 1), 2 * v);
  const paths = new Map<number, Path2D>();
  for (let i = 0; i < n; i++) {
    const value = classes[i] as number;
    const path = paths.get(value) ?? new Path2D();
    paths.set(value, path);
    const [start, end] = [starts[i] as number, starts[i + 1] as number];
    for (let point = start; point < end; point++) {
      const [px, py] = [xy[2 * point] as number, xy[2 * point + 1] as number];
      if (point === start) {
        path.moveTo(px, py);
      } else {
        path.lineTo(px, py);
      }
    }
    path.closePath();
  }
  return { x, y, paths };
}

export class Outlines {
  private readonly held = new Lru<Square>(MOST_SQUARES);
  private readonly running = new Map<string, AbortController>();
  private readonly failed = new Map<string, number>();
  private timer = 0;

  constructor(
    private readonly result: string,
    private readonly arrived: () => void,
  ) {}

  /** The squares of a box that are here; the others are fetched, a few at once. */
  within(box: Box): Square[] {
    // A nucleus belongs to the square of its centroid and may hang over: look a little around.
    const rim = 100;
    const span = (from: number, size: number) => [
      Math.max(0, Math.floor((from - rim) / SQUARE)),
      Math.floor((from + size + rim) / SQUARE),
    ];
    const [left, right] = span(box.x, box.width) as [number, number];
    const [top, bottom] = span(box.y, box.height) as [number, number];
    const wanted: [number, number][] = [];
    for (let row = top; row <= bottom; row++) {
      for (let column = left; column <= right; column++) {
        wanted.push([column, row]);
      }
    }
    this.drop(new Set(wanted.map(String)));
    return wanted.flatMap(([column, row]) => {
      const square = this.held.get(`${column},${row}`);
      if (!square) {
        void this.fetch(column, row);
      }
      return square ?? [];
    });
  }

  private drop(wanted: Set<string>): void {
    for (const [key, control] of this.running) {
      if (!wanted.has(key)) {
        control.abort();
        this.running.delete(key);
      }
    }
  }

  private async fetch(column: number, row: number): Promise<void> {
    const key = `${column},${row}`;
    const blocked = performance.now() - (this.failed.get(key) ?? -RETRY_MS) < RETRY_MS;
    if (this.running.has(key) || blocked || this.running.size >= AT_ONCE) {
      return;
    }
    const control = new AbortController();
    this.running.set(key, control);
    try {
      const url = `/api/results/${this.result}/outlines/${column}_${row}.bin`;
      const answer = await request(url, { signal: control.signal });
      const buffer = await answer.arrayBuffer();
      this.held.set(key, unpacked(buffer, column * SQUARE, row * SQUARE));
    } catch (error) {
      if (!isAbort(error)) {
        this.failed.set(key, performance.now());
        window.clearTimeout(this.timer);
        this.timer = window.setTimeout(this.arrived, RETRY_MS + 50);
      }
    } finally {
      if (this.running.get(key) === control) {
        this.running.delete(key);
      }
    }
    this.arrived();
  }

  /** Failures are over: what failed may be asked for again. */
  forgive(): void {
    this.failed.clear();
  }

  close(): void {
    window.clearTimeout(this.timer);
    this.drop(new Set());
    this.held.clear();
  }
}
