// What the server says, field for field. Coordinates are level-0 px.

export type Point = [number, number];
export type Ring = Point[];
export type Polygon = { type: "Polygon"; coordinates: Ring[] };
export type MultiPolygon = { type: "MultiPolygon"; coordinates: Ring[][] };
export type Areal = Polygon | MultiPolygon;
export type Geometry =
  | Areal
  | { type: "Point"; coordinates: Point }
  | { type: "MultiPoint"; coordinates: Point[] }
  | { type: "LineString"; coordinates: Point[] };

export interface NamedColor {
  name: string;
  color: string;
}

export interface ClassValue extends NamedColor {
  value: number;
}

export interface ResultName {
  id: string;
  name: string;
}

export interface Entry {
  id: string;
  name: string;
  status: "done" | "failed" | "waiting" | "slide";
  reason: string | null;
  message: string | null;
  areas_mm2: Record<string, number> | null;
  counts: Record<string, number> | null;
  analysed_mm2: number | null;
  thumbnail: string | null;
  results: ResultName[];
}

export interface Model {
  name: string;
  mpp: number;
  kind: string;
}

export interface Shelf {
  title: string;
  version: string;
  model: Model | null;
  entries: Entry[];
  classes: NamedColor[];
}

export interface SlideLevel {
  width: number;
  height: number;
  scale: Point;
  tile: Point;
}

export interface LayerLevel {
  width: number;
  height: number;
  scale: Point;
  origin: Point;
}

export interface Layer {
  name: string;
  kind: "classes" | "objects" | "probabilities";
  classes: (string | ClassValue)[];
  levels: LayerLevel[];
  tile: number;
}

export interface Result {
  id: string;
  name: string;
  model: string;
  classes: ClassValue[];
  layers: Layer[];
  nuclei: boolean;
  areas_mm2: Record<string, number> | null;
  counts: Record<string, number> | null;
  analysed_mm2: number | null;
}

export interface Slide {
  id: string;
  name: string;
  width: number;
  height: number;
  mpp: Point | null;
  mpp_source: string | null;
  reader: string;
  background: string;
  warnings: string[];
  levels: SlideLevel[];
  results: Result[];
}

export type Cell = string | number | boolean | null;

export interface Nucleus {
  id: number;
  outline: Ring;
  [column: string]: unknown;
}

export interface Place {
  class: ClassValue | null;
  probabilities: Record<string, number> | null;
  nucleus: Nucleus | null;
}

export interface FieldClass extends NamedColor {
  area_mm2: number | null;
  percent: number | null;
  count: number | null;
}

export interface Field {
  analysed_mm2: number | null;
  classes: FieldClass[];
  nuclei: number | null;
  per_mm2: number | null;
  approximate: boolean;
}

export interface ShapeProperties {
  name: string | null;
  class: string | null;
  color: string | null;
  quality: number | null;
  prompt: unknown;
}

export interface Shape {
  id: string;
  geometry: Geometry;
  properties: ShapeProperties;
}

export interface Session {
  revision: number;
  objects: Shape[];
  classes: NamedColor[];
  can_undo: boolean;
  can_redo: boolean;
  /** Sentences for people. */
  notes: string[];
}

export interface Imported extends Session {
  imported: number;
}

export interface Look {
  state: "ready" | "reading" | "encoding" | "waiting" | "failed";
  box: [number, number, number, number] | null;
  seconds: number;
  expected_seconds: number | null;
  message: string | null;
}

export interface Candidate {
  geometry: Areal;
  quality: number;
  area_um2: number | null;
  cut: boolean;
  /** By which it is accepted, and gone on from. */
  token: string;
}

export interface Answer {
  candidates: Candidate[];
  box: [number, number, number, number];
}

export interface Question {
  points: [number, number, 0 | 1][];
  box: [number, number, number, number] | null;
  outline: Areal | null;
  previous: string | null;
}
