/** Who held an address, by its row and by the records of the history; and the calls to EC2. */
import { getTableColumns, type SQL, sql } from 'drizzle-orm';
import type { Ipv4 } from '../domain/address.ts';
import type { Cause } from '../domain/allocation.ts';
import { type Ec2CallRecord, type Tenure, tenureOf } from '../domain/history.ts';
import type { EniId, InstanceId, SubnetId } from '../domain/ids.ts';
import type { Read } from './looks.ts';
import { nextTurn } from './next-turn.ts';
import { createReads, type Dialect, NOW } from './reads.ts';
import { decode, type Row, toAllocation } from './rows.ts';
import type { Reading } from './store.ts';

/** Calls that are read at a time. */
const CALLS_AT_ONCE = 250;

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
  containerId: row.container_id as string | null,
  ...{ request: row.claim_call as string | null, server: row.claim_server as string | null },
  endedBy: row.cause as Cause,
  ...{ endRequest: row.request as string | null, endServer: row.server as string },
});

/** `Store.ec2Calls`, some calls at a time, between which the requests of Docker go on. Those of one time go together. */
export async function readEc2Calls(
  read: Read,
  { tables: { ec2Call } }: Dialect,
  forMs: number,
  limit: number,
): Promise<Reading<Ec2CallRecord>> {
  const columns = getTableColumns(ec2Call);
  const { at } = ec2Call;
  const calls: Ec2CallRecord[] = [];
  for (let isEarlier = sql``; ; ) {
    const rest = sql`${at} >= ${NOW} - ${forMs}${isEarlier}`;
    const { rows: last } = await read([
      sql`SELECT ${at} FROM ${ec2Call} WHERE ${rest} ORDER BY ${at} DESC LIMIT 1 OFFSET ${CALLS_AT_ONCE - 1}`,
    ]);
    const first = last[0]?.at;
    const part = first === undefined ? rest : sql`${rest} AND ${at} >= ${first}`;
    const { now, rows } = await read([
      sql`SELECT * FROM ${ec2Call} WHERE ${part} ORDER BY ${at} DESC LIMIT ${limit - calls.length}`,
    ]);
    for (const row of rows) {
      const call = decode<Ec2CallRecord & { ips: string }>(columns, row);
      calls.push({ ...call, ips: call.ips.split(',') as Ipv4[] });
    }
    if (first === undefined || calls.length >= limit) return { now, rows: calls };
    isEarlier = sql` AND ${at} < ${first}`;
    await nextTurn();
  }
}
