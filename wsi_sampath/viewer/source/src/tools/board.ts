// The topmost canvas: annotations, prompts and drafts draw here, one after the other.
import { framed } from "../page/timing";
import type { Point } from "../server/types";
import type { Frame, Scene } from "../slide/scene";
import { Sheet } from "../overlay/sheet";

/** What a drawer gets: a canvas in level-0 px, and how long a screen px is there. */
export interface Pen {
  context: CanvasRenderingContext2D;
  px: number;
  frame: Frame;
}

export type Drawer = (pen: Pen) => void;

export class Board {
  private readonly sheet: Sheet;
  private readonly drawers: Drawer[] = [];
  readonly redraw = framed(() => this.draw());

  constructor(
    private readonly scene: Scene,
    parent: HTMLElement,
  ) {
    this.sheet = new Sheet(parent, "board");
    scene.onMove(() => this.draw());
  }

  add(drawer: Drawer): void {
    this.drawers.push(drawer);
  }

  private draw(): void {
    const { frame } = this.scene;
    const context = this.sheet.fresh(frame.width, frame.height);
    const scale = frame.scale * this.sheet.ratio;
    for (const drawer of this.drawers) {
      context.save();
      context.setTransform(scale, 0, 0, scale, -frame.x * scale, -frame.y * scale);
      context.lineJoin = "round";
      drawer({ context, px: 1 / frame.scale, frame });
      context.restore();
    }
  }
}

const HALO = "rgba(255, 255, 255, 0.85)";

/** Stroke with a light rim, so that it is seen on dark and on light tissue. */
export function strokeClearly({ context, px }: Pen, path: Path2D, color: string, width = 2): void {
  context.strokeStyle = HALO;
  context.lineWidth = (width + 2) * px;
  context.stroke(path);
  context.strokeStyle = color;
  context.lineWidth = width * px;
  context.stroke(path);
}

/** A dot of a size on the screen. */
export function dot({ context, px }: Pen, [x, y]: Point, color: string, radius: number): void {
  context.beginPath();
  context.arc(x, y, radius * px, 0, 2 * Math.PI);
  context.fillStyle = color;
  context.fill();
  context.strokeStyle = "#ffffff";
  context.lineWidth = 1.5 * px;
  context.stroke();
}
