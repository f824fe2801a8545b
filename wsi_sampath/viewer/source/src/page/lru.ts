// A map that forgets what was used least recently.

export class Lru<T> {
  private readonly held = new Map<string, T>();

  constructor(
    private readonly most: number,
    private readonly dropped: (value: T) => void = () => undefined,
  ) {}

  get(key: string): T | undefined {
    const value = this.held.get(key);
    if (value !== undefined) {
      this.held.delete(key);
      this.held.set(key, value);
    }
    return value;
  }

  set(key: string, value: T): void {
    this.held.delete(key);
    this.held.set(key, value);
    for (const [oldest, gone] of this.held) {
      if (this.held.size <= this.most) {
        break;
      }
      this.held.delete(oldest);
      this.dropped(gone);
    }
  }

  clear(): void {
    this.held.forEach(this.dropped);
    this.held.clear();
  }
}
