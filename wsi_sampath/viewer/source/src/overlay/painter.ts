// Results over the slide: which result goes where, and by which colours. No toggle asks the server.
import { colorOf } from "../page/dom";
import type { Store } from "../page/store";
import { framed } from "../page/timing";
import type { Frame, Scene } from "../slide/scene";
import type { Layer, Result } from "../server/types";
import { type Display, resultOf } from "./display";
import { Outlines } from "./outlines";
import { classPalette, heatPalette, type Palette } from "./palette";
import { type Raster, RasterPainter } from "./raster";
import { Sheet } from "./sheet";
import { ValueTiles } from "./tiles";

// Outlines are drawn from here on; a nucleus is then six screen px wide and more.
const OUTLINE_UM_PER_PX = 1.25;
const USUAL_MPP = 0.25;
const INSIDE_OUTLINES = 0.35;

/** A result in its part of the screen, CSS px. */
interface Pane {
  result: Result;
  from: number;
  to: number;
}

export class Painter {
  private readonly fills: Sheet;
  private readonly lines: Sheet;
  private readonly tiles: ValueTiles;
  private readonly raster: RasterPainter;
  private readonly outlines = new Map<string, Outlines>();
  private readonly heat = heatPalette();
  private readonly palettes = new Map<string, { hidden: ReadonlySet<string>; palette: Palette }>();
  readonly redraw = framed(() => this.draw());

  constructor(
    private readonly scene: Scene,
    private readonly display: Store<Display>,
    parent: HTMLElement,
  ) {
    this.fills = new Sheet(parent, "fills");
    this.lines = new Sheet(parent, "lines");
    this.tiles = new ValueTiles(this.redraw);
    this.raster = new RasterPainter(this.tiles);
    // In the same frame as the slide, or the overlay would swim behind it.
    scene.onMove(() => this.draw());
    display.watch(this.redraw);
  }

  /** Whether the view is near enough for outlines of nuclei. */
  get near(): boolean {
    const mpp = this.scene.slide.mpp?.[0] ?? USUAL_MPP;
    return mpp / this.scene.frame.scale <= OUTLINE_UM_PER_PX;
  }

  /** Inside outlines the tissue is what one wants to see. */
  private strength(panes: Pane[], { mode, nuclei }: Display): number {
    const outlined = nuclei && this.near && panes.every(({ result }) => result.nuclei);
    return outlined && mode === "fill" ? INSIDE_OUTLINES : 1;
  }

  private panes(frame: Frame): Pane[] {
    const display = this.display.value;
    const [first, second] = [display.first, display.second].map((id) =>
      resultOf(this.scene.slide, id),
    ) as [Result | null, Result | null];
    const whole = (result: Result | null): Pane[] =>
      result ? [{ result, from: 0, to: frame.width }] : [];
    if (display.compare === "blink") {
      return whole(display.other ? second : first);
    }
    if (display.compare === "none") {
      return whole(first);
    }
    const edge = display.curtain * frame.width;
    return [
      ...(first ? [{ result: first, from: 0, to: edge }] : []),
      ...(second ? [{ result: second, from: edge, to: frame.width }] : []),
    ];
  }

  private draw(): void {
    const { frame, visible } = this.scene;
    const display = this.display.value;
    const fills = this.fills.fresh(frame.width, frame.height);
    const lines = this.lines.fresh(frame.width, frame.height);
    const panes = display.mode === "off" ? [] : this.panes(frame);
    this.fills.canvas.style.opacity = String(display.opacity * this.strength(panes, display));
    const wanted: string[] = [];
    for (const pane of panes) {
      for (const context of [fills, lines]) {
        clip(context, pane, frame, this.fills.ratio);
      }
      wanted.push(...this.drawPane(pane, frame, display, fills, lines));
      fills.restore();
      lines.restore();
    }
    if (display.compare === "blink" && display.mode !== "off") {
      wanted.push(...this.ahead(frame, display));
    }
    if (visible.width > 0 && visible.height > 0) {
      this.tiles.want([...new Set(wanted)]);
    }
  }

  /** While blinking, the result that is not shown is fetched as well. */
  private ahead(frame: Frame, display: Display): string[] {
    const result = resultOf(this.scene.slide, display.other ? display.first : display.second);
    const raster = result && this.rasterOf(result, display);
    return raster ? this.raster.wanted(raster, frame, this.scene.visible) : [];
  }

  private drawPane(
    { result }: Pane,
    frame: Frame,
    display: Display,
    fills: CanvasRenderingContext2D,
    lines: CanvasRenderingContext2D,
  ): string[] {
    const { visible } = this.scene;
    const { ratio } = this.fills;
    const raster = this.rasterOf(result, display);
    if (raster && display.mode === "contours") {
      this.raster.contours(lines, raster, shownColors(result, display), frame, visible, ratio);
    } else if (raster) {
      const palette = display.mode === "heat" ? this.heat : this.paletteOf(result, display);
      this.raster.fill(fills, raster, palette, frame, visible, ratio);
    }
    if (result.nuclei && display.nuclei && this.near) {
      this.drawOutlines(result, display, lines, frame);
    }
    return raster ? this.raster.wanted(raster, frame, visible) : [];
  }

  private drawOutlines(
    result: Result,
    display: Display,
    context: CanvasRenderingContext2D,
    frame: Frame,
  ): void {
    const { ratio } = this.lines;
    const colors = shownColors(result, display);
    const scale = frame.scale * ratio;
    let outlines = this.outlines.get(result.id);
    if (!outlines) {
      outlines = new Outlines(result.id, this.redraw);
      this.outlines.set(result.id, outlines);
    }
    for (const square of outlines.within(this.scene.visible)) {
      context.setTransform(
        scale,
        0,
        0,
        scale,
        (square.x - frame.x) * scale,
        (square.y - frame.y) * scale,
      );
      context.lineWidth = 1.5 / frame.scale;
      context.lineJoin = "round";
      for (const [value, path] of square.paths) {
        const color = colors.get(value);
        if (color) {
          context.strokeStyle = color;
          context.stroke(path);
        }
      }
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  private rasterOf(result: Result, display: Display): Raster | null {
    const heat = display.mode === "heat";
    const layer = result.layers.find(({ kind }) => kind === (heat ? "probabilities" : "classes"));
    if (!layer || layer.levels.length === 0) {
      return null;
    }
    const channel = heat ? channelOf(layer, display.heat) : null;
    const query = channel === null ? "" : `?channel=${channel}`;
    const base = `/api/results/${result.id}/layers/${encodeURIComponent(layer.name)}`;
    return {
      layer,
      smooth: heat,
      url: ({ level, column, row }) => `${base}/${level}/${column}_${row}.png${query}`,
    };
  }

  private paletteOf(result: Result, { hidden }: Display): Palette {
    const known = this.palettes.get(result.id);
    if (known?.hidden === hidden) {
      return known.palette;
    }
    const palette = classPalette(result.classes, hidden);
    this.palettes.set(result.id, { hidden, palette });
    return palette;
  }

  /** What failed is asked for at once. */
  again(): void {
    this.tiles.forgive();
    this.outlines.forEach((outlines) => outlines.forgive());
    this.redraw();
  }

  close(): void {
    this.tiles.close();
    this.raster.clear();
    this.outlines.forEach((outlines) => outlines.close());
  }
}

function clip(context: CanvasRenderingContext2D, pane: Pane, frame: Frame, ratio: number): void {
  context.save();
  context.beginPath();
  context.rect(pane.from * ratio, 0, (pane.to - pane.from) * ratio, frame.height * ratio);
  context.clip();
}

function shownColors(result: Result, { hidden }: Display): Map<number, string> {
  return new Map(
    result.classes
      .filter(({ name }) => !hidden.has(name))
      .map(({ value, color }) => [value, colorOf(color)]),
  );
}

/** The names of a layer's classes, in the order of its channels. */
export function channelNames(layer: Layer): string[] {
  return layer.classes.map((item) => (typeof item === "string" ? item : item.name));
}

function channelOf(layer: Layer, name: string | null): number {
  return Math.max(0, channelNames(layer).indexOf(name ?? ""));
}
