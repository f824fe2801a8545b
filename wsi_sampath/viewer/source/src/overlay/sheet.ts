// A canvas over the slide that is as sharp as the screen.
import { el } from "../page/dom";

export class Sheet {
  readonly canvas: HTMLCanvasElement;
  readonly context: CanvasRenderingContext2D;
  ratio = 1;

  constructor(parent: HTMLElement, name: string) {
    this.canvas = el("canvas", { class: `sheet ${name}`, "aria-hidden": "true" });
    parent.append(this.canvas);
    this.context = this.canvas.getContext("2d") as CanvasRenderingContext2D;
  }

  /** Clear it, and fit it to the size of what it lies on. */
  fresh(width: number, height: number): CanvasRenderingContext2D {
    this.ratio = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * this.ratio), Math.round(height * this.ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
    }
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.clearRect(0, 0, w, h);
    return this.context;
  }
}
