// The pointer while prompting: a click is a point, a drag is a box.
import { pathOf } from "../objects/geometry";
import { Store } from "../page/store";
import { type Board, dot, type Pen, strokeClearly } from "../tools/board";
import type { Press, Tool } from "../tools/surface";
import type { Point } from "../server/types";
import type { PromptDesk } from "./prompting";

export const POSITIVE = "#1fa35c";
export const NEGATIVE = "#d8352a";
const BOX = "#1b6ef3";

export class PromptTool implements Tool {
  private from: Point | null = null;
  private to: Point | null = null;
  /** Whether the plain click says "not this". */
  readonly flipped = new Store(false);

  constructor(
    private readonly desk: PromptDesk,
    private readonly board: Board,
    private readonly color: () => string,
  ) {
    board.add((pen) => this.draw(pen));
    desk.state.listen(board.redraw);
  }

  /** T. */
  flip(): void {
    this.flipped.value = !this.flipped.value;
  }

  click({ at, negative, inside }: Press): void {
    if (inside) {
      this.desk.point(at, negative !== this.flipped.value ? 0 : 1);
    }
  }

  dragStart({ at }: Press): boolean {
    this.from = at;
    return true;
  }

  dragMove(to: Point): void {
    this.to = to;
    this.board.redraw();
  }

  dragEnd(to: Point): void {
    const { from } = this;
    this.dragStop();
    if (from) {
      this.desk.box(from, to);
    }
  }

  dragStop(): void {
    this.from = null;
    this.to = null;
    this.board.redraw();
  }

  private draw(pen: Pen): void {
    const { points, box, outline, look, state } = this.desk.state.value;
    const { context, px } = pen;
    if (state === "looking" && look?.box) {
      context.setLineDash([6 * px, 5 * px]);
      context.lineWidth = 1.5 * px;
      context.strokeStyle = BOX;
      context.strokeRect(...look.box);
      context.setLineDash([]);
    }
    if (outline) {
      context.setLineDash([4 * px, 4 * px]);
      strokeClearly(pen, pathOf(outline), BOX, 1.5);
      context.setLineDash([]);
    }
    const mask = this.desk.candidate;
    if (mask) {
      context.globalAlpha = 0.3;
      context.fillStyle = this.color();
      context.fill(pathOf(mask.geometry), "evenodd");
      context.globalAlpha = 1;
      strokeClearly(pen, pathOf(mask.geometry), this.color(), 2.5);
    }
    const drawn = this.from && this.to ? ([...this.from, ...this.to] as const) : box;
    if (drawn) {
      const path = new Path2D();
      path.rect(drawn[0], drawn[1], drawn[2] - drawn[0], drawn[3] - drawn[1]);
      strokeClearly(pen, path, BOX, 1.5);
    }
    for (const [x, y, sign] of points) {
      dot(pen, [x, y], sign ? POSITIVE : NEGATIVE, 6);
      this.sign(pen, x, y, sign === 1);
    }
  }

  /** Plus or minus within the dot: the sign is not told by colour alone. */
  private sign({ context, px }: Pen, x: number, y: number, plus: boolean): void {
    const arm = 3 * px;
    context.beginPath();
    context.moveTo(x - arm, y);
    context.lineTo(x + arm, y);
    if (plus) {
      context.moveTo(x, y - arm);
      context.lineTo(x, y + arm);
    }
    context.strokeStyle = "#ffffff";
    context.lineWidth = 1.6 * px;
    context.stroke();
  }
}
