import { count, getTableColumns } from 'drizzle-orm';
import { parseCidr } from '../../domain/address.ts';
import type { Allocation } from '../../domain/allocation.ts';
import { tokensOf } from '../group-commit.ts';
import { toAllocation } from '../rows.ts';
import type { LedgerServer, Reading, Store } from '../store.ts';
import type { MysqlSpec } from '../url.ts';
import { LINK_BOUNDS, type LinkBounds, openLink, type Row, type Statement } from './connection.ts';
import { MysqlFailure } from './errors.ts';
import { addStatements, portionsOf } from './insert.ts';
import { migrateMysql, outdatedMysql } from './migrate.ts';
import { createMover } from './move.ts';
import * as rows from './queries.ts';
import { CALL_TIMEOUT_MS, insist, ipamErrorOf, placeOf, repeat } from './retry.ts';
import { allocation, server as serverTable, subnet as subnetTable } from './schema.ts';
import { build, decode, SELECT_NOW, setNow, statement } from './sql.ts';
import * as others from './tables.ts';
import * as turns from './turns.ts';

/** Addresses in one `get`; more are asked for in several statements of the packet. */
const IPS_MAX = 2_000;
export interface MysqlOptions {
  readonly spec: MysqlSpec;
  /** Goes before one in the spec. */
  readonly password?: string | null;
  /** Begins the tokens, so that a row tells which process moved it last. */
  readonly origin?: string;
  /** How far the store's clock is ahead of the database's; tests set it forward. */
  readonly skewMs?: () => number;
  /** For a whole call, all its tries together; the settling of an unknown outcome has the same again. */
  readonly callTimeoutMs?: number;
  readonly bounds?: Partial<LinkBounds>;
}

/** The ledger on MySQL or MariaDB. Its clock is the database's. Connects when it is first asked. */
export function openMysql(options: MysqlOptions): Store {
  const { spec, skewMs = () => 0, callTimeoutMs = CALL_TIMEOUT_MS } = options;
  const place = placeOf(spec);
  const newToken = tokensOf(options.origin);
  const link = openLink(spec, options.password ?? null, { ...LINK_BOUNDS, ...options.bounds });
  const mover = createMover(link, { place, newToken, skewMs, callTimeoutMs });

  async function ours<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw error instanceof MysqlFailure ? ipamErrorOf(error, place) : error;
    }
  }
  const ask = (...packet: Statement[]): Promise<Row[][]> => ours(repeat(link, packet, callTimeoutMs));
  /** The rows of all the selects, one behind the other, read at one time. */
  async function read(...selects: Statement[]): Promise<{ now: number; rows: Row[] }> {
    const [, clock, ...answers] = await ask(setNow(skewMs()), SELECT_NOW, ...selects);
    return { now: Number(clock?.[0]?.now), rows: answers.flat() };
  }
  async function readAllocations(...selects: Statement[]): Promise<Reading<Allocation>> {
    const reading = await read(...selects);
    return { now: reading.now, rows: reading.rows.map(toAllocation) };
  }

  async function forgetServers(): Promise<void> {
    const { rows: old } = await read(others.selectOldServers());
    if (old.length > 0) await ask(others.deleteServers(old.map(({ id }) => String(id))));
  }
  /** Servers whose first beat was sent from here. */
  const begun = new Set<string>();

  return {
    migrate: () => ours(migrateMysql(link, place, callTimeoutMs)),
    outdated: () => ours(outdatedMysql(link, place, callTimeoutMs)),
    async close() {
      link.close();
    },

    move: mover.move,
    lateOutcomes: mover.lateOutcomes,
    async add(list) {
      const token = newToken();
      let added = 0;
      for (const portion of portionsOf(list)) {
        const answers = await ask(...addStatements(portion, token, skewMs()));
        added += Number(answers.at(-1)?.[0]?.count);
      }
      return added;
    },

    get(subnet, ips) {
      const selects: Statement[] = [];
      for (let i = 0; i < ips.length; i += IPS_MAX)
        selects.push(rows.selectIps(subnet, ips.slice(i, i + IPS_MAX)));
      return readAllocations(...selects);
    },
    onEni: eni => readAllocations(rows.selectOnEni(eni)),
    readyOn: (eni, range, limit) => readAllocations(rows.selectReadyOn(eni, range, limit)),
    async freeFor(query) {
      const reading = await readAllocations(...rows.selectFreeFor(query));
      return { now: reading.now, rows: reading.rows.slice(0, query.limit) };
    },
    intents: (ageMs, limit) => readAllocations(rows.selectIntents(ageMs, limit)),
    withStatus: (subnet, statuses) =>
      readAllocations(...(statuses.length === 0 ? [] : [rows.selectWithStatus(subnet, statuses)])),
    async tally() {
      const { subnet, status } = allocation;
      const tally = build.select({ subnet, status, count: count() }).from(allocation).groupBy(subnet, status);
      const [found = []] = await ask(statement(tally));
      return found.map(row => ({ ...decode({ subnet, status }, row), count: Number(row['count(*)']) }));
    },

    async subnets() {
      const [found = []] = await ask(others.selectSubnets());
      return found
        .map(row => decode(getTableColumns(subnetTable), row))
        .map(row => ({ ...row, cidr: parseCidr(row.cidr) }));
    },
    async saveSubnet(subnet) {
      await ask(others.upsertSubnet(subnet));
    },
    async eni(id) {
      const [[row] = []] = await ask(others.selectEni(id));
      return row === undefined ? null : others.eniOf(row);
    },
    async enis() {
      const [found = []] = await ask(others.selectEnis());
      return found.map(others.eniOf);
    },
    async saveEnis(list) {
      if (list.length > 0) await ask(...others.upsertEnis(list));
    },
    async noteAttachments(seen, readAt) {
      if (seen.length > 0) await ask(...others.updateAttachments(seen, readAt));
    },
    async adopt(id) {
      await ask(others.updateOurs(id));
    },
    async setReleased(id, released) {
      await ask(setNow(skewMs()), others.updateReleased(id, released));
    },

    async beat(server, stopped) {
      if (!begun.has(server)) {
        begun.add(server); // if it fails the next server that begins does it
        await forgetServers();
      }
      return (await read(others.upsertServer(server, stopped))).now;
    },
    async servers() {
      const reading = await read(others.selectServers());
      return { now: reading.now, rows: reading.rows.map(toServer) };
    },
    async lease(name, server, forMs) {
      const answers = await ask(...others.takeLease(name, server, forMs, skewMs()));
      return answers.at(-1)?.[0]?.server === server;
    },
    async takeTurn(turn) {
      const answers = await ours(insist(link, turns.takeTurn(turn, skewMs()), callTimeoutMs));
      return turns.waitOf(answers.at(-1)?.[0]);
    },
    async slowTurns({ name, aheadMs }) {
      const answers = await ask(...turns.slowTurns(name, aheadMs, skewMs()));
      return turns.halvingsOf(answers.at(-1)?.[0]);
    },
    async fact(name) {
      const [[row] = []] = await ask(others.selectFact(name));
      return row === undefined ? null : String(row.value);
    },
    async noteFact(name, value) {
      await ask(others.upsertFact(name, value));
    },
    async noteFactOnce(name, value) {
      const answers = await ask(...others.insertFact(name, value));
      return String(answers.at(-1)?.[0]?.value);
    },
  };
}

const toServer = (row: Row): LedgerServer => decode(getTableColumns(serverTable), row);
