/** Durations and times for people. */

const UNITS: readonly [ms: number, unit: string][] = [
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'min'],
  [1000, 's'],
];

/** A duration in its largest unit, as `3 h`; in two units where the larger one is 1, as `1 h 20 min`. */
export function duration(ms: number): string {
  const first = UNITS.findIndex(([size]) => ms >= size);
  const [size, unit] = UNITS[first] ?? [1000, 's'];
  const count = Math.max(0, Math.floor(ms / size));
  const [nextSize, nextUnit] = UNITS[first + 1] ?? [0, ''];
  const rest = first === -1 || nextSize === 0 ? 0 : Math.floor((ms - count * size) / nextSize);
  return count === 1 && rest > 0 ? `1 ${unit} ${rest} ${nextUnit}` : `${count} ${unit}`;
}

/** Whether there is such a time. A row can hold any number. */
export const isTime = (ms: number): boolean => !Number.isNaN(new Date(ms).getTime());

/** A time as `2026-11-26 09:15:04 UTC`; a dash for one that cannot be. `ms`: since 1970. */
export const utc = (ms: number): string =>
  isTime(ms) ? `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC` : '–';
