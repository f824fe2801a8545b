// Corners of one object: dragged, added and taken away, on outer rings and on holes.
//
// Written here because Annotorious cannot start under a content security policy without
// 'unsafe-eval': its renderer makes functions from text.
import { addRing } from "../objects/geometry";
import type { Areal, Point, Ring } from "../server/types";
import { type Board, dot, type Pen, strokeClearly } from "./board";
import type { Press, Tool } from "./surface";

const CORNER_PX = 9;
const EDGE_PX = 8;
// Corners nearer than this on the screen are not all drawn.
const APART_PX = 7;

interface Corner {
  ring: number;
  index: number;
}

interface Edited {
  id: string;
  color: string;
  kind: Areal["type"];
  /** How many rings each polygon has. */
  shape: number[];
  /** Open rings. */
  rings: Ring[];
}

export class VertexTool implements Tool {
  private edited: Edited | null = null;
  private past: Ring[][] = [];
  private corner: Corner | null = null;

  constructor(
    private readonly board: Board,
    private readonly scale: () => number,
    private readonly done: (id: string, geometry: Areal) => void,
  ) {
    board.add((pen) => this.draw(pen));
  }

  get id(): string | null {
    return this.edited?.id ?? null;
  }

  start(id: string, geometry: Areal, color: string): void {
    const polygons = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
    this.edited = {
      id,
      color,
      kind: geometry.type,
      shape: polygons.map((rings) => rings.length),
      rings: polygons.flat().map((ring) => ring.slice(0, -1)),
    };
    this.past = [];
    this.corner = { ring: 0, index: 0 };
    this.board.redraw();
  }

  cancel(): void {
    this.edited = null;
    this.corner = null;
    this.board.redraw();
  }

  /** Hand over what was changed. */
  finish(): void {
    const { edited, past } = this;
    this.cancel();
    if (edited && past.length) {
      this.done(edited.id, geometryOf(edited));
    }
  }

  undo(): boolean {
    const rings = this.past.pop();
    if (this.edited && rings) {
      this.edited.rings = rings;
      this.corner = null;
      this.board.redraw();
    }
    return rings !== undefined;
  }

  click({ at, negative }: Press): void {
    const corner = this.cornerAt(at);
    if (corner) {
      this.corner = corner;
      if (negative) {
        this.remove();
      }
    } else {
      this.insert(at);
    }
    this.board.redraw();
  }

  dragStart({ at }: Press): boolean {
    const corner = this.cornerAt(at);
    if (corner) {
      this.remember();
      this.corner = corner;
    }
    return (corner ?? this.insert(at)) !== null;
  }

  dragMove(to: Point): void {
    this.place(to);
  }

  dragEnd(to: Point): void {
    this.place(to);
  }

  dragStop(): void {
    this.undo();
  }

  /** To the next corner, or the one before. */
  step(by: number): void {
    const all = this.all();
    const at = all.findIndex((c) => c.ring === this.corner?.ring && c.index === this.corner.index);
    this.corner = all[(at + by + all.length) % all.length] ?? null;
    this.board.redraw();
  }

  /** Move the corner by screen px. */
  nudge(x: number, y: number): void {
    const at = this.corner && this.point(this.corner);
    if (at) {
      this.remember();
      this.place([at[0] + x / this.scale(), at[1] + y / this.scale()]);
    }
  }

  remove(): void {
    const { edited, corner } = this;
    const ring = corner && edited?.rings[corner.ring];
    if (ring && ring.length > 3) {
      this.remember();
      ring.splice(corner.index, 1);
      corner.index %= ring.length;
      this.board.redraw();
    }
  }

  /** Split the edge that follows the corner. */
  split(): void {
    const { edited, corner } = this;
    const ring = corner && edited?.rings[corner.ring];
    if (ring) {
      const [a, b] = [ring[corner.index], ring[(corner.index + 1) % ring.length]] as [Point, Point];
      this.remember();
      ring.splice(corner.index + 1, 0, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
      corner.index += 1;
      this.board.redraw();
    }
  }

  private remember(): void {
    if (this.edited) {
      this.past.push(this.edited.rings.map((ring) => [...ring]));
    }
  }

  private place(to: Point): void {
    const ring = this.corner && this.edited?.rings[this.corner.ring];
    if (ring) {
      ring[(this.corner as Corner).index] = to;
      this.board.redraw();
    }
  }

  private point({ ring, index }: Corner): Point | null {
    return this.edited?.rings[ring]?.[index] ?? null;
  }

  private all(): Corner[] {
    return (this.edited?.rings ?? []).flatMap((points, ring) =>
      points.map((_, index) => ({ ring, index })),
    );
  }

  private cornerAt([x, y]: Point): Corner | null {
    let best: Corner | null = null;
    let least = CORNER_PX / this.scale();
    for (const corner of this.all()) {
      const [cx, cy] = this.point(corner) as Point;
      const distance = Math.hypot(cx - x, cy - y);
      if (distance < least) {
        [best, least] = [corner, distance];
      }
    }
    return best;
  }

  /** A new corner on the edge at a point, or null where there is none. */
  private insert(at: Point): Corner | null {
    let best: Corner | null = null;
    let least = EDGE_PX / this.scale();
    for (const { ring, index } of this.all()) {
      const points = this.edited?.rings[ring] as Ring;
      const distance = toEdge(at, points[index] as Point, points[(index + 1) % points.length] as Point);
      if (distance < least) {
        [best, least] = [{ ring, index: index + 1 }, distance];
      }
    }
    if (best) {
      this.remember();
      this.edited?.rings[best.ring]?.splice(best.index, 0, at);
      this.corner = best;
    }
    return best;
  }

  private draw(pen: Pen): void {
    const { edited } = this;
    if (!edited) {
      return;
    }
    const path = new Path2D();
    edited.rings.forEach((ring) => addRing(path, ring, true));
    strokeClearly(pen, path, edited.color);
    for (const ring of edited.rings) {
      let last: Point | null = null;
      for (const point of ring) {
        const far = last && Math.hypot(point[0] - last[0], point[1] - last[1]) >= APART_PX * pen.px;
        if (!last || far) {
          dot(pen, point, edited.color, 3.5);
          last = point;
        }
      }
    }
    const chosen = this.corner && this.point(this.corner);
    if (chosen) {
      dot(pen, chosen, "#ffd54a", 5.5);
    }
  }
}

function geometryOf({ kind, shape, rings }: Edited): Areal {
  const round = (value: number) => Math.round(value * 100) / 100;
  const closed = rings.map((ring) =>
    [...ring, ring[0] as Point].map(([x, y]): Point => [round(x), round(y)]),
  );
  let next = 0;
  const polygons = shape.map((size) => closed.slice(next, (next += size)));
  return kind === "Polygon"
    ? { type: kind, coordinates: polygons[0] ?? [] }
    : { type: kind, coordinates: polygons };
}

function toEdge([x, y]: Point, [ax, ay]: Point, [bx, by]: Point): number {
  const [dx, dy] = [bx - ax, by - ay];
  const along = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1);
  const at = Math.min(1, Math.max(0, along));
  return Math.hypot(x - ax - at * dx, y - ay - at * dy);
}
