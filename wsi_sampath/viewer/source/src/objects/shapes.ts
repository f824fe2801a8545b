// Annotations over the slide, and which one is selected.
import { colorOf } from "../page/dom";
import { Store } from "../page/store";
import type { Point, Shape } from "../server/types";
import type { Box } from "../slide/scene";
import { type Board, dot, type Pen, strokeClearly } from "../tools/board";
import { areaOf, boxOf, contains, isAreal, pathOf } from "./geometry";
import type { SessionDesk } from "./session";

const BOXES = new WeakMap<Shape, Box>();

function boxOfShape(shape: Shape): Box {
  const box = BOXES.get(shape) ?? boxOf(shape.geometry);
  BOXES.set(shape, box);
  return box;
}

export class Shapes {
  readonly selected = new Store<string | null>(null);
  visible = true;
  /** The one whose corners are being edited is drawn by the editor. */
  hiddenId: () => string | null = () => null;

  constructor(
    private readonly session: SessionDesk,
    private readonly board: Board,
  ) {
    board.add((pen) => this.draw(pen));
    session.state.listen(({ objects }) => {
      if (!objects.some(({ id }) => id === this.selected.value)) {
        this.selected.value = null;
      }
      board.redraw();
    });
    session.waiting.listen(board.redraw);
    this.selected.listen(board.redraw);
  }

  get(id: string | null): Shape | null {
    return this.session.state.value.objects.find((shape) => shape.id === id) ?? null;
  }

  get chosen(): Shape | null {
    return this.get(this.selected.value);
  }

  /** The smallest annotation at a point. */
  at(point: Point): Shape | null {
    const [x, y] = point;
    const hits = this.session.state.value.objects.filter((shape) => {
      const box = boxOfShape(shape);
      const near = x >= box.x && y >= box.y && x <= box.x + box.width && y <= box.y + box.height;
      return near && contains(shape.geometry, point);
    });
    hits.sort((a, b) => areaOf(a.geometry) - areaOf(b.geometry));
    return hits[0] ?? null;
  }

  /** Select the next one, in the list's order. */
  step(by: number): Shape | null {
    const { objects } = this.session.state.value;
    const at = objects.findIndex(({ id }) => id === this.selected.value);
    const next = objects[(at + by + objects.length) % (objects.length || 1)] ?? null;
    this.selected.value = next?.id ?? null;
    return next;
  }

  toggle(): void {
    this.visible = !this.visible;
    this.board.redraw();
  }

  private draw(pen: Pen): void {
    if (!this.visible) {
      return;
    }
    const { frame, px } = pen;
    const right = frame.x + frame.width * px;
    const bottom = frame.y + frame.height * px;
    const hidden = this.hiddenId();
    for (const shape of this.session.state.value.objects) {
      const box = boxOfShape(shape);
      const outside =
        box.x > right || box.y > bottom || box.x + box.width < frame.x || box.y + box.height < frame.y;
      if (!outside && shape.id !== hidden) {
        this.drawShape(pen, shape);
      }
    }
    this.drawWaiting(pen);
  }

  /** What is not on the server's disk yet is dashed. */
  private drawWaiting(pen: Pen): void {
    const { context, px } = pen;
    context.setLineDash([6 * px, 4 * px]);
    for (const event of this.session.waiting.value) {
      if (event.type === "add") {
        const { geometry, properties } = event.feature;
        const named = this.session.state.value.classes.find(({ name }) => name === properties.class);
        strokeClearly(pen, pathOf(geometry), colorOf(named?.color));
      } else if (event.type === "change" && event.geometry) {
        strokeClearly(pen, pathOf(event.geometry), colorOf(this.get(event.id)?.properties.color));
      }
    }
    context.setLineDash([]);
  }

  private drawShape(pen: Pen, shape: Shape): void {
    const { context } = pen;
    const color = colorOf(shape.properties.color);
    if (!isAreal(shape.geometry)) {
      const points = "coordinates" in shape.geometry ? [shape.geometry.coordinates].flat(3) : [];
      for (let i = 0; i + 1 < points.length; i += 2) {
        dot(pen, [points[i], points[i + 1]] as Point, color, 4);
      }
      return;
    }
    const path = pathOf(shape.geometry);
    const selected = shape.id === this.selected.value;
    if (selected) {
      context.globalAlpha = 0.22;
      context.fillStyle = color;
      context.fill(path, "evenodd");
      context.globalAlpha = 1;
    }
    strokeClearly(pen, path, color, selected ? 3 : 1.8);
  }
}
