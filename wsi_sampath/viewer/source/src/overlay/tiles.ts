// Tiles of class values, fetched once and kept; a bounded number, the latest asked for first.
import { Lru } from "../page/lru";
import { isAbort, request } from "../server/api";

export interface Values {
  width: number;
  height: number;
  /** One byte a px: the class, or 255 p. */
  bytes: Uint8Array;
}

const MOST_TILES = 600;
const AT_ONCE = 6;
// A tile that failed is asked for again after this long.
const RETRY_MS = 4000;

/** The grey values of a PNG, untouched by colour management. */
async function decoded(blob: Blob): Promise<Values> {
  const image = await createImageBitmap(blob, {
    colorSpaceConversion: "none",
    premultiplyAlpha: "none",
  });
  const { width, height } = image;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) {
    throw new Error("This browser gives no canvas.");
  }
  context.drawImage(image, 0, 0);
  image.close();
  const rgba = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
  return { width, height, bytes: Uint8Array.from(rgba, (value) => value & 0xff) };
}

export class ValueTiles {
  private readonly held = new Lru<Values>(MOST_TILES);
  private readonly failed = new Map<string, number>();
  private readonly running = new Map<string, AbortController>();
  private wanted: string[] = [];
  private timer = 0;

  constructor(private readonly arrived: () => void) {}

  get(url: string): Values | undefined {
    return this.held.get(url);
  }

  /** Say which tiles the view wants, the most wanted first; others are no longer fetched. */
  want(urls: string[]): void {
    const now = performance.now();
    const blocked = (url: string) => now - (this.failed.get(url) ?? -RETRY_MS) < RETRY_MS;
    this.wanted = urls.filter((url) => !this.held.get(url) && !blocked(url));
    for (const [url, control] of this.running) {
      if (!urls.includes(url)) {
        control.abort();
        this.running.delete(url);
      }
    }
    this.fill();
  }

  private fill(): void {
    for (const url of this.wanted) {
      if (this.running.size >= AT_ONCE) {
        return;
      }
      if (!this.running.has(url)) {
        void this.fetch(url);
      }
    }
  }

  private async fetch(url: string): Promise<void> {
    const control = new AbortController();
    this.running.set(url, control);
    try {
      const answer = await request(url, { signal: control.signal });
      this.held.set(url, await decoded(await answer.blob()));
      this.failed.delete(url);
      this.arrived();
    } catch (error) {
      if (!isAbort(error)) {
        this.failed.set(url, performance.now());
        window.clearTimeout(this.timer);
        this.timer = window.setTimeout(this.arrived, RETRY_MS + 50);
      }
    }
    if (this.running.get(url) === control) {
      this.running.delete(url);
    }
    this.wanted = this.wanted.filter((other) => other !== url);
    this.fill();
  }

  /** Failures are over: what failed may be asked for again. */
  forgive(): void {
    this.failed.clear();
  }

  close(): void {
    window.clearTimeout(this.timer);
    this.want([]);
    this.held.clear();
  }
}
