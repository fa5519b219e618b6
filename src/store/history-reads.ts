/** Who held an address, by its row and by the records of the history. */
import { type SQL, sql } from 'drizzle-orm';
import type { Ipv4 } from '../domain/address.ts';
import type { Cause } from '../domain/allocation.ts';
import { type Tenure, tenureOf } from '../domain/history.ts';
import type { EniId, InstanceId, SubnetId } from '../domain/ids.ts';
import { createReads, type Dialect } from './reads.ts';
import { type Row, toAllocation } from './rows.ts';

/** Two selects for `tenuresIn`. A move between them may be in both of their answers. */
export function historyReads(dialect: Dialect, subnet: SubnetId, ip: Ipv4, limit: number): SQL[] {
  const { allocation, history } = dialect.tables;
  const { claimCall, claimServer } = allocation;
  return [
    createReads(dialect).held(subnet, ip, [claimCall, claimServer]),
    sql`SELECT * FROM ${history} WHERE ${history.subnet} = ${subnet} AND ${history.ip} = ${ip}
      ORDER BY ${history.generation} DESC LIMIT ${limit}`,
  ];
}

/** The tenures of one address, newest first. The row comes first, if it is held. */
export function tenuresIn(rows: readonly Row[]): Tenure[] {
  const [first] = rows;
  if (first === undefined || !('status' in first)) return rows.map(endedIn);
  const ended = rows.slice(1);
  const hasEnded = Number(ended[0]?.generation ?? 0) > Number(first.generation);
  return [...(hasEnded ? [] : [heldIn(first)]), ...ended.map(endedIn)];
}

function heldIn(row: Row): Tenure {
  const at = row.claimed_at as number | null;
  const [call, server] = [row.claim_call as string | null, String(row.claim_server)];
  return tenureOf(toAllocation(row), at === null || row.claim_server === null ? null : { at, call, server });
}

const endedIn = (row: Row): Tenure => ({
  ...{ since: row.since as number | null, until: row.at as number, isHeld: false },
  eni: row.iface as EniId | null,
  instance: row.instance as InstanceId | null,
  container: row.holder as string | null,
  ...{ request: row.claim_call as string | null, server: row.claim_server as string | null },
  endedBy: row.cause as Cause,
  ...{ endRequest: row.request as string | null, endServer: row.server as string },
});
