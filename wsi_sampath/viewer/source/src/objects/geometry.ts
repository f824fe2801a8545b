// Rings and polygons of level-0 px.
import type { Areal, Geometry, Point, Ring } from "../server/types";
import type { Box } from "../slide/scene";

export function ringsOf(geometry: Geometry): Ring[] {
  switch (geometry.type) {
    case "Polygon":
      return geometry.coordinates;
    case "MultiPolygon":
      return geometry.coordinates.flat();
    case "LineString":
    case "MultiPoint":
      return [geometry.coordinates];
    case "Point":
      return [[geometry.coordinates]];
  }
}

export function isAreal(geometry: Geometry): geometry is Areal {
  return geometry.type === "Polygon" || geometry.type === "MultiPolygon";
}

export function boxOf(geometry: Geometry): Box {
  const points = ringsOf(geometry).flat();
  const xs = points.map(([x]) => x);
  const ys = points.map(([, y]) => y);
  const [x, y] = [Math.min(...xs), Math.min(...ys)];
  return { x, y, width: Math.max(...xs) - x, height: Math.max(...ys) - y };
}

/** Twice the signed area of a ring. */
function shoelace(ring: Ring): number {
  let sum = 0;
  for (let i = 0; i < ring.length; i++) {
    const [x0, y0] = ring[i] as Point;
    const [x1, y1] = ring[(i + 1) % ring.length] as Point;
    sum += x0 * y1 - x1 * y0;
  }
  return sum;
}

/** Area in px, holes taken off. */
export function areaOf(geometry: Geometry): number {
  if (!isAreal(geometry)) {
    return 0;
  }
  const polygons = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
  return polygons.reduce((sum, [outer, ...holes]) => {
    const whole = Math.abs(shoelace(outer ?? []));
    return sum + (whole - holes.reduce((part, hole) => part + Math.abs(shoelace(hole)), 0)) / 2;
  }, 0);
}

/** Whether a point lies in it: inside an odd number of rings. */
export function contains(geometry: Geometry, [x, y]: Point): boolean {
  if (!isAreal(geometry)) {
    return false;
  }
  let inside = false;
  for (const ring of ringsOf(geometry)) {
    for (let i = 0; i < ring.length; i++) {
      const [x0, y0] = ring[i] as Point;
      const [x1, y1] = ring[(i + 1) % ring.length] as Point;
      if (y0 > y !== y1 > y && x < ((x1 - x0) * (y - y0)) / (y1 - y0) + x0) {
        inside = !inside;
      }
    }
  }
  return inside;
}

const round = (value: number) => Math.round(value * 100) / 100;

/** A polygon of these corners, closed as GeoJSON wants it. */
export function polygonOf(corners: Ring): Areal {
  const ring = corners.map(([x, y]): Point => [round(x), round(y)]);
  return { type: "Polygon", coordinates: [[...ring, ring[0] as Point]] };
}

export function rectangleOf([x0, y0]: Point, [x1, y1]: Point): Areal {
  return polygonOf([
    [Math.min(x0, x1), Math.min(y0, y1)],
    [Math.max(x0, x1), Math.min(y0, y1)],
    [Math.max(x0, x1), Math.max(y0, y1)],
    [Math.min(x0, x1), Math.max(y0, y1)],
  ]);
}

const PATHS = new WeakMap<Geometry, Path2D>();

/** The outline as a path in level-0 px, made once for each geometry. */
export function pathOf(geometry: Geometry): Path2D {
  let path = PATHS.get(geometry);
  if (!path) {
    path = new Path2D();
    for (const ring of ringsOf(geometry)) {
      addRing(path, ring, isAreal(geometry));
    }
    PATHS.set(geometry, path);
  }
  return path;
}

export function addRing(path: Path2D, ring: Ring, closed: boolean): void {
  ring.forEach(([x, y], index) => {
    if (index === 0) {
      path.moveTo(x, y);
    } else {
      path.lineTo(x, y);
    }
  });
  if (closed) {
    path.closePath();
  }
}
