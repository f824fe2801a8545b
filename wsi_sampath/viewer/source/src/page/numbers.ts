// Numbers as people read them.

export function significant(value: number, digits = 3): string {
  if (value === 0) {
    return "0";
  }
  if (Math.abs(value) >= 10 ** digits) {
    return Math.round(value).toLocaleString("en");
  }
  return Number(value.toPrecision(digits)).toString();
}

/** An area: µm² while it is small, mm² from a hundredth on. */
export function area(mm2: number): string {
  if (mm2 === 0) {
    return "0";
  }
  if (mm2 >= 0.01) {
    return `${significant(mm2)} mm²`;
  }
  return `${significant(mm2 * 1e6)} µm²`;
}

export function length(um: number): string {
  return um >= 1000 ? `${significant(um / 1000)} mm` : `${significant(um)} µm`;
}

export function percent(value: number): string {
  if (value > 0 && value < 0.1) {
    return "<0.1 %";
  }
  return `${value.toFixed(1)} %`;
}

export const count = (n: number): string => n.toLocaleString("en");
