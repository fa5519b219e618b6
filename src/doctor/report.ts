/** What the doctor prints. */
import type { Finding, State } from './finding.ts';

const MARKS: Readonly<Record<State, string>> = {
  ok: 'ok',
  warning: 'warning',
  broken: 'BROKEN',
  'not checked': 'not checked',
};
const MARK_CHARACTERS = 11;

const countOf = (findings: readonly Finding[], state: State): number =>
  findings.filter(one => one.state === state).length;

export const isBroken = (findings: readonly Finding[]): boolean => countOf(findings, 'broken') > 0;

/** A line for each finding, and one for its remedy. */
export function reportText(findings: readonly Finding[]): string {
  const lines = findings.flatMap(({ check, state, what, fix }) => [
    `${MARKS[state].padEnd(MARK_CHARACTERS)} ${check}: ${what}`,
    ...(fix === null ? [] : [`${' '.repeat(MARK_CHARACTERS + 1)}to do: ${fix}`]),
  ]);
  const counts = (['ok', 'warning', 'broken', 'not checked'] as const).map(
    state => `${countOf(findings, state)} ${state}`,
  );
  return `${[...lines, counts.join(', ')].join('\n')}\n`;
}

export const reportData = (findings: readonly Finding[]) => ({ works: !isBroken(findings), findings });
