/** What the project promises of its speed, each beside what the rows say: ratios within one run where that is possible,
 *  since they mean the same on every machine. */
import type { ColdRow, EarlyRow, InitRow, Row, StartRow, WarmRow } from './rows.ts';
import { atLeast, atMost, type Case, cases, sum, type Target } from './target.ts';
import { ofSizes, ofWarm } from './warm-targets.ts';

/** Who waits for another ENI's call waits for two. */
const FOR_OTHERS = 2;

/** Those that the rows can answer. */
export function targetsOf(rows: readonly Row[]): Target[] {
  const warm = rows.filter(row => row.what === 'warm');
  const early = rows.filter(row => row.what === 'early');
  const cold = rows.filter(row => row.what === 'cold');
  const starts = rows.filter(row => row.what === 'start');
  const inits = rows.filter(row => row.what === 'init');
  const all = [
    ...ofAnswers(warm, early, cold),
    ...ofWarm(warm),
    ...ofSizes(warm),
    ...ofEarly(early),
    ...ofCold(cold),
    ...ofStarts(starts),
    ...ofInits(inits),
  ];
  return all.filter(({ measured }) => measured.length > 0);
}

function ofAnswers(warm: readonly WarmRow[], early: readonly EarlyRow[], cold: readonly ColdRow[]): Target[] {
  const total = <R>(rows: readonly R[], label: string, count: (row: R) => number): Case[] =>
    rows.length === 0 ? [] : [{ label, value: sum(rows.map(count)) }];
  const all = (count: (row: WarmRow | EarlyRow | ColdRow) => number) => [
    ...total(warm, 'warm', count),
    ...total(early, 'early', count),
    ...total(cold, 'cold', count),
  ];
  return [
    atMost(
      'addresses given twice',
      0,
      all(row => row.duplicates),
    ),
    atMost(
      'errors as answers',
      0,
      all(row => row.errors),
    ),
    atMost(
      'EC2 calls of warm starts',
      0,
      total(warm, 'warm', row => row.ec2Calls),
    ),
  ];
}

/** An early reuse costs one commit as a warm start does, and a line in the log. */
function ofEarly(early: readonly EarlyRow[]): Target[] {
  const label = ({ store, runtime, clients }: EarlyRow) => `${store} ${runtime} ${clients}`;
  return [
    atMost(
      'nothing rested on the ENI: RequestAddress p50 ÷ warm',
      1.5,
      cases(early, label, row => row.requestMs.p50 / row.warm.requestMs.p50),
    ),
    atLeast(
      'nothing rested on the ENI: calls/s ÷ warm',
      0.6,
      cases(early, label, row => row.callsPerSecond / row.warm.callsPerSecond),
    ),
  ];
}

function ofCold(cold: readonly ColdRow[]): Target[] {
  const of = (shape: ColdRow['shape']) => cold.filter(row => row.shape === shape);
  const label = (row: ColdRow) => `${row.store} ${row.runtime}`;
  const slowest = (row: ColdRow) => row.maxMs / row.assignMs;
  const atOnce = of('at once');
  const oneByOne = of('one by one');
  const many = of('many ENIs');
  return [
    atMost(
      '49 at once on a fresh ENI: assign calls',
      2,
      cases(atOnce, label, row => row.assignCalls),
    ),
    atMost('49 at once: slowest ÷ one assign', 1.4, cases(atOnce, label, slowest)),
    atMost(
      '49 one by one: assign calls',
      5,
      cases(oneByOne, label, row => row.assignCalls),
    ),
    atMost(
      '49 one by one: answers that waited ÷ assign calls',
      1,
      cases(oneByOne, label, row => row.waited / row.assignCalls),
    ),
    atMost(
      '50 ENIs, 8 each at once: assign calls',
      50,
      cases(many, label, row => row.assignCalls),
    ),
    atMost('50 ENIs, 8 each at once: slowest ÷ one assign', FOR_OTHERS, cases(many, label, slowest)),
  ];
}

function ofStarts(starts: readonly StartRow[]): Target[] {
  const label = (row: StartRow) => row.runtime;
  return [
    atMost(
      'start to first answer ÷ no-op bundle',
      2.5,
      cases(starts, label, row => row.firstAnswerMs / row.noopFirstAnswerMs),
    ),
    atMost(
      'idle resident memory ÷ no-op bundle',
      1.6,
      cases(starts, label, row => row.idleResidentMb / row.noopIdleResidentMb),
    ),
  ];
}

function ofInits(inits: readonly InitRow[]): Target[] {
  const mariadb = inits.filter(row => row.store === 'mariadb');
  const label = (row: InitRow) => `${row.runtime} ${row.enis} ENIs`;
  return [
    atMost(
      'MariaDB, init of a /16: seconds',
      2,
      cases(mariadb, label, row => row.seconds),
    ),
    atMost(
      'MariaDB, init of a /16: peak resident MB',
      120,
      cases(mariadb, label, row => row.peakResidentMb),
    ),
  ];
}
