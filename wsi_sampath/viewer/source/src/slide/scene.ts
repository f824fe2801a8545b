// The slide on the screen: OpenSeadragon, and where level-0 px lie on the screen.
import OpenSeadragon from "openseadragon";
import { calm, colorOf, el } from "../page/dom";
import type { Point, Slide } from "../server/types";
import { tileSource } from "./source";

/** A rectangle of level-0 px. */
export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** screen = (level-0 - origin) * scale, in CSS px. */
export interface Frame {
  x: number;
  y: number;
  scale: number;
  width: number;
  height: number;
}

const KEY_PAN = 0.15;
const KEY_ZOOM = 1.5;
const WHEEL_ZOOM = 1.2;

/**
 * OpenSeadragon adds a style element of its own unless it finds one; the content security policy
 * forbids that, and stage.css has the rule. This one is found, and is no style sheet at all.
 */
function spareStyle(): void {
  if (!document.querySelector("style[data-openseadragon-mobile-css]")) {
    const spare = document.createElementNS("urn:wsi-view", "style");
    spare.setAttribute("data-openseadragon-mobile-css", "true");
    document.head.append(spare);
  }
}

export class Scene {
  readonly stage: HTMLElement;
  readonly viewer: OpenSeadragon.Viewer;
  private readonly moved = new Set<() => void>();
  private last = "";

  constructor(
    readonly slide: Slide,
    parent: HTMLElement,
    minimap: HTMLElement,
  ) {
    this.stage = el("div", { class: "stage" });
    parent.prepend(this.stage);
    spareStyle();
    this.viewer = OpenSeadragon({
      element: this.stage,
      drawer: "canvas",
      tileSources: [tileSource(slide)] as unknown as OpenSeadragon.TileSource[],
      showNavigationControl: false,
      showNavigator: true,
      navigatorElement: minimap,
      navigatorAutoFade: false,
      navigatorOpacity: 1,
      navigatorDisplayRegionColor: "#4da3ff",
      placeholderFillStyle: colorOf(slide.background),
      animationTime: calm.matches ? 0 : 0.35,
      springStiffness: 9,
      maxZoomPixelRatio: 8,
      minZoomImageRatio: 0.7,
      visibilityRatio: 0.3,
      imageLoaderLimit: 8,
      maxImageCacheCount: 400,
      zoomPerScroll: WHEEL_ZOOM,
      timeout: 60000,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true, pinchRotate: false },
      keyboardNavEnabled: false,
    } as OpenSeadragon.Options);
    this.viewer.canvas.setAttribute("aria-label", `Slide ${slide.name}`);
    this.viewer.canvas.setAttribute("role", "application");
    for (const event of ["update-viewport", "resize", "open"] as const) {
      this.viewer.addHandler(event, () => this.tellMove());
    }
  }

  /** OpenSeadragon also updates for tiles that arrived, which is no move. */
  private tellMove(): void {
    const now = JSON.stringify(this.frame);
    if (now !== this.last) {
      this.last = now;
      this.moved.forEach((listener) => listener());
    }
  }

  /** Call whenever the view changed. */
  onMove(listener: () => void): void {
    this.moved.add(listener);
    this.last = "";
  }

  onOpen(listener: () => void): void {
    this.viewer.addOnceHandler("open", listener);
  }

  get frame(): Frame {
    const size = this.viewer.viewport.getContainerSize();
    const bounds = this.viewer.viewport.getBounds(true);
    const span = this.slide.width;
    const scale = size.x / (bounds.width * span);
    return { x: bounds.x * span, y: bounds.y * span, scale, width: size.x, height: size.y };
  }

  /** The visible part of the slide. */
  get visible(): Box {
    const { x, y, scale, width, height } = this.frame;
    const left = Math.max(0, x);
    const top = Math.max(0, y);
    return {
      x: left,
      y: top,
      width: Math.max(0, Math.min(this.slide.width, x + width / scale) - left),
      height: Math.max(0, Math.min(this.slide.height, y + height / scale) - top),
    };
  }

  toSlide([x, y]: Point): Point {
    const frame = this.frame;
    return [frame.x + x / frame.scale, frame.y + y / frame.scale];
  }

  /** From an event's position on the page to level-0 px. */
  at(event: { clientX: number; clientY: number }): Point {
    const box = this.stage.getBoundingClientRect();
    return this.toSlide([event.clientX - box.left, event.clientY - box.top]);
  }

  inside([x, y]: Point): boolean {
    return x >= 0 && y >= 0 && x < this.slide.width && y < this.slide.height;
  }

  /** The centre, and screen px per level-0 px. */
  get centre(): { x: number; y: number; zoom: number } {
    const { x, y, scale, width, height } = this.frame;
    return { x: x + width / scale / 2, y: y + height / scale / 2, zoom: scale };
  }

  goTo(x: number, y: number, zoom: number): void {
    const { viewport } = this.viewer;
    const span = this.slide.width;
    viewport.zoomTo((zoom * span) / viewport.getContainerSize().x, undefined, true);
    viewport.panTo(new OpenSeadragon.Point(x / span, y / span), true);
    viewport.applyConstraints(true);
  }

  /** Bring a box into view with room around it; no nearer than now, or than px twice as large. */
  show(box: Box): void {
    const { width, height, scale } = this.frame;
    const fits = Math.min(width / (3 * box.width || 1), height / (3 * box.height || 1));
    const zoom = Math.min(fits, Math.max(scale, 2));
    this.goTo(box.x + box.width / 2, box.y + box.height / 2, zoom);
  }

  panBy(x: number, y: number): void {
    const { viewport } = this.viewer;
    const bounds = viewport.getBounds();
    viewport.panBy(
      new OpenSeadragon.Point(x * KEY_PAN * bounds.width, y * KEY_PAN * bounds.height),
    );
    viewport.applyConstraints();
  }

  /** Pan by screen px, at once. */
  drag(x: number, y: number): void {
    const { viewport } = this.viewer;
    viewport.panBy(viewport.deltaPointsFromPixels(new OpenSeadragon.Point(-x, -y)), true);
    viewport.applyConstraints(true);
  }

  zoomBy(steps: number): void {
    this.viewer.viewport.zoomBy(KEY_ZOOM ** steps);
    this.viewer.viewport.applyConstraints();
  }

  /** Zoom as the wheel does, keeping what is under the pointer where it is. */
  wheel(event: WheelEvent): void {
    const box = this.stage.getBoundingClientRect();
    const { viewport } = this.viewer;
    const at = new OpenSeadragon.Point(event.clientX - box.left, event.clientY - box.top);
    viewport.zoomBy(event.deltaY < 0 ? WHEEL_ZOOM : 1 / WHEEL_ZOOM, viewport.pointFromPixel(at));
    viewport.applyConstraints();
  }

  home(): void {
    this.viewer.viewport.goHome();
  }

  close(): void {
    this.moved.clear();
    this.viewer.destroy();
    this.stage.remove();
  }
}
