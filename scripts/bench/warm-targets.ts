/** The promises that the warm rows answer. */
import { ROW_COUNTS } from './bench.ts';
import type { WarmRow } from './rows.ts';
import { atLeast, atMost, cases, sum, type Target } from './target.ts';

export function ofWarm(warm: readonly WarmRow[]): Target[] {
  const small = warm.filter(row => row.rows === ROW_COUNTS['4k']);
  const mariadb = small.filter(row => row.store === 'mariadb');
  const of = (rows: readonly WarmRow[], ...clients: number[]) =>
    rows.filter(row => clients.includes(row.clients));
  const label = (row: WarmRow) => `${row.store} ${row.runtime}`;
  const at200 = of(mariadb, 200).flatMap(row => {
    const at50 = of(mariadb, 50).find(other => other.runtime === row.runtime);
    return at50 === undefined
      ? []
      : [{ label: row.runtime, value: row.callsPerSecond / at50.callsPerSecond }];
  });
  return [
    atMost(
      '1 client: RequestAddress p50 ÷ (commit p50 + no-op p50)',
      2,
      cases(of(small, 1), label, row => row.requestMs.p50 / (row.commitMs.p50 + row.noopMs.p50)),
    ),
    atLeast(
      'MariaDB, 50 clients: calls/s ÷ no-op calls/s',
      0.55,
      cases(
        of(mariadb, 50),
        row => row.runtime,
        row => row.callsPerSecond / row.noopPerSecond,
      ),
    ),
    atLeast(
      'MariaDB, 50 clients: pairs/s ÷ durable one-statement pairs/s',
      2,
      cases(
        of(mariadb, 50),
        row => row.runtime,
        row => pairsRatio(row) ?? Number.NaN,
      ),
    ),
    atLeast('MariaDB: calls/s of 200 clients ÷ of 50', 1, at200),
    atMost(
      'MariaDB, 50 and 200 clients: RequestAddress p99 ÷ p50',
      5,
      cases(
        of(mariadb, 50, 200),
        row => `${row.runtime} ${row.clients}`,
        row => row.requestMs.p99 / row.requestMs.p50,
      ),
    ),
    atLeast(
      'SQLite, 50 clients: calls/s ÷ commits/s',
      1,
      cases(
        of(small, 50).filter(row => row.store === 'sqlite'),
        row => row.runtime,
        row => row.callsPerSecond / row.commitsPerSecond,
      ),
    ),
    atMost(
      '200 clients: resident MB',
      160,
      cases(of(warm, 200), labelOfSize, row => row.peakResidentMb),
    ),
  ];
}

const labelOfSize = ({ store, runtime, rows }: WarmRow): string => `${store} ${runtime} ${rows}`;

/** Served request+release pairs for each that the database alone does; null: it was not asked. */
export const pairsRatio = ({ callsPerSecond, durablePairsPerSecond }: WarmRow): number | null =>
  durablePairsPerSecond === null ? null : callsPerSecond / 2 / durablePairsPerSecond;

/** Of each store and runtime, the geometric mean over all numbers of clients: one row alone is too uneven. */
export function ofSizes(warm: readonly WarmRow[]): Target[] {
  const logs = new Map<string, number[]>();
  for (const large of warm.filter(row => row.rows === ROW_COUNTS['65k'])) {
    const { store, runtime, clients } = large;
    const small = warm.find(
      row =>
        row.rows === ROW_COUNTS['4k'] &&
        row.store === store &&
        row.runtime === runtime &&
        row.clients === clients,
    );
    if (small === undefined) continue;
    const label = `${store} ${runtime}`;
    logs.set(label, [...(logs.get(label) ?? []), Math.log(large.callsPerSecond / small.callsPerSecond)]);
  }
  const measured = [...logs].map(([label, all]) => ({ label, value: Math.exp(sum(all) / all.length) }));
  return [atLeast('calls/s at 65,536 rows ÷ at 4,096', 0.9, measured)];
}
