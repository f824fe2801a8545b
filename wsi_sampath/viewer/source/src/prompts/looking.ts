// The server looks at the square around a prompt before it can answer; this waits, and says so.
import { pause } from "../page/timing";
import { ApiError, get, post } from "../server/api";
import type { Look, Point } from "../server/types";

const POLL_MS = 350;

type Box = [number, number, number, number];

const covers = ([x, y, width, height]: Box, [px, py]: Point) =>
  px >= x && py >= y && px < x + width && py < y + height;

/** Look at the square that answers at a point; `told` hears of each step. */
export async function lookAt(
  slide: string,
  point: Point,
  signal: AbortSignal,
  told: (look: Look) => void,
): Promise<void> {
  const [x, y] = point;
  const url = `/api/slides/${slide}/look`;
  let look = await post<Look>(url, { x, y }, signal);
  told(look);
  while (look.state !== "ready") {
    if (look.state === "failed") {
      throw new ApiError(500, "look", look.message ?? "The model could not look at this place.");
    }
    await pause(POLL_MS, signal);
    look = await get<Look>(`${url}?x=${x}&y=${y}`, signal);
    told(look);
  }
}

/** Squares that were seen already need no look. */
export class Seen {
  private readonly boxes: Box[] = [];

  add(box: Box): void {
    this.boxes.push(box);
    if (this.boxes.length > 256) {
      this.boxes.shift();
    }
  }

  has(point: Point): boolean {
    return this.boxes.some((box) => covers(box, point));
  }
}

export function stepText(look: Look): string {
  const expected = look.expected_seconds;
  const time = expected
    ? ` ${Math.round(look.seconds)} of about ${Math.max(1, Math.round(expected))} s`
    : ` ${Math.round(look.seconds)} s`;
  const doing = {
    waiting: "Waiting for the model",
    reading: "Reading the slide",
    encoding: "Looking at this field",
    ready: "Ready",
    failed: "Failed",
  }[look.state];
  return look.message || (look.state === "ready" ? doing : `${doing}:${time}`);
}
