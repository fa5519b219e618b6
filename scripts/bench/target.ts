/** What the project promises of its speed, and what was measured of it. */

/** One promise, and each case of it that was measured. */
export interface Target {
  readonly what: 'target';
  readonly name: string;
  readonly wanted: string;
  readonly measured: readonly Case[];
  /** In every case. */
  readonly met: boolean;
}
export interface Case {
  readonly label: string;
  readonly value: number;
}

export const atMost = (name: string, limit: number, measured: readonly Case[]): Target => ({
  what: 'target',
  name,
  wanted: `≤ ${limit}`,
  measured,
  met: measured.every(({ value }) => value <= limit),
});
export const atLeast = (name: string, limit: number, measured: readonly Case[]): Target => ({
  what: 'target',
  name,
  wanted: `≥ ${limit}`,
  measured,
  met: measured.every(({ value }) => value >= limit),
});
export const cases = <R>(rows: readonly R[], label: (row: R) => string, value: (row: R) => number): Case[] =>
  rows.map(row => ({ label: label(row), value: value(row) }));
export const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
