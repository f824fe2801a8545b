// Polygons, rectangles and freehand outlines drawn by hand.
import { addRing, polygonOf, rectangleOf } from "../objects/geometry";
import type { Areal, Point, Ring } from "../server/types";
import { type Board, dot, type Pen, strokeClearly } from "./board";
import type { Tool } from "./surface";

const CLOSES_PX = 10;
const FREEHAND_STEP_PX = 3;

/** Corner by corner; a double click, Enter or the first corner closes it. */
export class PolygonTool implements Tool {
  private corners: Ring = [];
  private pointer: Point | null = null;

  constructor(
    private readonly board: Board,
    private readonly scale: () => number,
    private readonly color: () => string,
    private readonly done: (geometry: Areal) => void,
  ) {
    board.add((pen) => this.draw(pen));
  }

  get active(): boolean {
    return this.corners.length > 0;
  }

  click({ at }: { at: Point }): void {
    const [first] = this.corners;
    if (first && this.corners.length > 2 && this.near(first, at)) {
      this.finish();
      return;
    }
    const last = this.corners.at(-1);
    if (!last || !this.near(last, at, 2)) {
      this.corners.push(at);
    }
    this.board.redraw();
  }

  doubleClick(): void {
    this.finish();
  }

  hover(at: Point): void {
    this.pointer = at;
    if (this.active) {
      this.board.redraw();
    }
  }

  private near(a: Point, b: Point, px = CLOSES_PX): boolean {
    return Math.hypot(a[0] - b[0], a[1] - b[1]) * this.scale() < px;
  }

  finish(): void {
    const { corners } = this;
    if (corners.length > 2) {
      this.cancel();
      this.done(polygonOf(corners));
    }
  }

  back(): void {
    this.corners.pop();
    this.board.redraw();
  }

  cancel(): void {
    this.corners = [];
    this.board.redraw();
  }

  private draw(pen: Pen): void {
    if (this.active) {
      const path = new Path2D();
      addRing(path, [...this.corners, ...(this.pointer ? [this.pointer] : [])], false);
      strokeClearly(pen, path, this.color());
      this.corners.forEach((corner) => dot(pen, corner, this.color(), 4));
    }
  }
}

/** By dragging: a rectangle, or an outline that follows the pointer. */
export class DragTool implements Tool {
  private drawn: Ring = [];

  constructor(
    private readonly shape: "rectangle" | "freehand",
    private readonly board: Board,
    private readonly scale: () => number,
    private readonly color: () => string,
    private readonly done: (geometry: Areal) => void,
  ) {
    board.add((pen) => this.draw(pen));
  }

  dragStart({ at }: { at: Point }): boolean {
    this.drawn = [at];
    return true;
  }

  dragMove(to: Point): void {
    const [first] = this.drawn;
    const last = this.drawn.at(-1);
    if (this.shape === "rectangle" && first) {
      this.drawn = [first, to];
    } else if (last && Math.hypot(to[0] - last[0], to[1] - last[1]) * this.scale() >= FREEHAND_STEP_PX) {
      this.drawn.push(to);
    }
    this.board.redraw();
  }

  dragEnd(to: Point): void {
    this.dragMove(to);
    const geometry = this.geometry();
    this.dragStop();
    if (geometry) {
      this.done(geometry);
    }
  }

  dragStop(): void {
    this.drawn = [];
    this.board.redraw();
  }

  private geometry(): Areal | null {
    const [first, second] = this.drawn;
    if (!first || !second) {
      return null;
    }
    if (this.shape === "rectangle") {
      return rectangleOf(first, second);
    }
    return this.drawn.length > 2 ? polygonOf(this.drawn) : null;
  }

  private draw(pen: Pen): void {
    const geometry = this.geometry();
    const [ring] = (geometry?.coordinates ?? []) as Ring[];
    if (ring) {
      const path = new Path2D();
      addRing(path, ring, true);
      strokeClearly(pen, path, this.color());
    }
  }
}
