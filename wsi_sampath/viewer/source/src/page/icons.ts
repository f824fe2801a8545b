// Icons as lines on a 20 x 20 square.
export const ICONS = {
  pan: "M10 2v16M2 10h16M7.5 4.5 10 2l2.5 2.5M7.5 15.5 10 18l2.5-2.5M4.5 7.5 2 10l2.5 2.5M15.5 7.5 18 10l-2.5 2.5",
  point: "M10 6v8M6 10h8M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16",
  freehand: "M3 14c2-8 6-11 9-10 4 1-1 5-3 7s-1 4 1 4 4-2 6-4",
  polygon: "M4 15 3 7l7-4 7 5-3 8z",
  rectangle: "M3 5h14v10H3z",
  edit: "M5 13 4 5l9-1 3 8zM5 13v0M3.5 13h3v3h-3zM2.500 3.500h3v3h-3zM11.500 2.500h3v3h-3zM14.500 10.500h3v3h-3z",
  undo: "M7 4 3 8l4 4M3 8h8a5 5 0 0 1 0 10H8",
  redo: "m13 4 4 4-4 4M17 8H9a5 5 0 0 0 0 10h3",
  link: "M8 12a4 4 0 0 0 6 0l2.500-2.500a4 4 0 0 0-6-6L9 5M12 8a4 4 0 0 0-6 0l-2.500 2.500a4 4 0 0 0 6 6L11 15",
  help: "M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16M7.500 8a2.500 2.500 0 1 1 3.500 2.300c-.7.3-1 .8-1 1.700M10 14.300v.2",
  plus: "M10 4v12M4 10h12",
  minus: "M4 10h12",
  home: "M3 9V3h6M17 11v6h-6M3 3l6 6M17 17l-6-6",
  trash: "M3 5h14M8 5V3h4v2M5 5l1 12h8l1-12M8.500 8v6M11.500 8v6",
  download: "M10 3v10M6 9l4 4 4-4M3 16h14",
  upload: "M10 13V3M6 7l4-4 4 4M3 16h14",
  back: "M12 4 6 10l6 6",
  close: "M5 5l10 10M15 5 5 15",
  panel: "M3 4h14v12H3zM12.500 4v12",
} as const;

export type IconName = keyof typeof ICONS;
