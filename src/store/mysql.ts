import { count, getTableColumns } from 'drizzle-orm';
import { numberOf, parseCidr } from '../domain/address.ts';
import type { Allocation, Change } from '../domain/allocation.ts';
import { batchOf, tokensOf } from './batch.ts';
import { addStatements, portionsOf } from './mysql-add.ts';
import { CALL_TIMEOUT_MS, insist, ipamErrorOf, once, placeOf, repeat } from './mysql-calls.ts';
import { MysqlFailure } from './mysql-failure.ts';
import { LINK_BOUNDS, type LinkBounds, openLink, type Row, type Statement } from './mysql-link.ts';
import { migrateMysql, outdatedMysql } from './mysql-migrate.ts';
import { inOrderOf, movedBy, moveStatements, settleStatements } from './mysql-move.ts';
import * as others from './mysql-others.ts';
import * as rows from './mysql-rows.ts';
import { allocation, eni as eniTable, server as serverTable, subnet as subnetTable } from './mysql-schema.ts';
import { build, DOMAIN_COLUMNS, decode, SELECT_NOW, setNow, statement } from './mysql-sql.ts';
import type { LedgerEni, LedgerServer, Moved, Reading, Store } from './store.ts';
import type { MysqlSpec } from './url.ts';

/** Addresses in one `get`; more are asked for in several statements of the packet. */
const IPS_MAX = 2_000;
/** Moves whose outcome is not known; with more of them nothing is moved any more. */
const UNSETTLED_MAX = 1_000;

interface Unsettled {
  readonly batch: readonly Change[];
  readonly token: string;
}

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

  /** The rows that moved. Only when the settling fails as well does nobody know what became of the move. */
  const unsettled: Unsettled[] = [];

  async function moveOrSettle(move: Unsettled): Promise<Row[]> {
    if (unsettled.length >= UNSETTLED_MAX)
      throw new MysqlFailure('unsent', `it is not known what became of ${unsettled.length} moves`);
    try {
      const answers = await once(link, moveStatements(move.batch, move.token, skewMs()), callTimeoutMs);
      return answers.at(-1) ?? [];
    } catch (error) {
      if (!(error instanceof MysqlFailure) || error.outcome !== 'unknown') throw error;
    }
    try {
      return await settle(move);
    } catch (error) {
      unsettled.push(move);
      throw error;
    }
  }

  const settle = async ({ batch, token }: Unsettled): Promise<Row[]> =>
    (await insist(link, settleStatements(batch, token), callTimeoutMs)).at(-1) ?? [];

  return {
    migrate: () => ours(migrateMysql(link, place, callTimeoutMs)),
    outdated: () => ours(outdatedMysql(link, place, callTimeoutMs)),
    async close() {
      link.close();
    },

    async move(changes) {
      const batch = batchOf(changes);
      if (batch.length === 0) return [];
      const moved = await ours(moveOrSettle({ batch, token: newToken() }));
      return inOrderOf(batch, moved.map(toAllocation));
    },
    async unheard() {
      const learned: Moved[] = [];
      for (let move = unsettled.shift(); move !== undefined; move = unsettled.shift()) {
        try {
          learned.push(...movedBy(move.batch, (await settle(move)).map(toAllocation)));
        } catch (error) {
          unsettled.unshift(move);
          if (learned.length > 0) break;
          throw error instanceof MysqlFailure ? ipamErrorOf(error, place) : error;
        }
      }
      return learned;
    },
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
    async intents(ageMs, limit) {
      const reading = await readAllocations(...rows.selectIntents(ageMs, limit));
      return { now: reading.now, rows: reading.rows.toSorted(byAge).slice(0, limit) };
    },
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
      return row === undefined ? null : toEni(row);
    },
    async enis() {
      const [found = []] = await ask(others.selectEnis());
      return found.map(toEni);
    },
    async saveEnis(list) {
      if (list.length > 0) await ask(...others.upsertEnis(list));
    },
    async adopt(id) {
      await ask(others.updateOurs(id));
    },
    async setCountIntent(id, from, to) {
      const [[row] = []] = await ask(others.selectEni(id));
      if (row === undefined) return false;
      const was = others.countStateOf(row);
      if (was.countIntentAt !== from) return false;
      const answers = await ask(...others.setCountIntent(id, was, to, newToken(), skewMs()));
      return answers.at(-1)?.length === 1;
    },

    async beat(server, stopped) {
      const reading = await read(
        others.upsertServer(server, stopped),
        others.deleteOldServers(),
        others.selectServers(),
      );
      return { now: reading.now, rows: reading.rows.map(toServer) };
    },
    async servers() {
      const reading = await read(others.selectServers());
      return { now: reading.now, rows: reading.rows.map(toServer) };
    },
    async lease(name, server, forMs) {
      const answers = await ask(...others.takeLease(name, server, forMs, skewMs()));
      return answers.at(-1)?.[0]?.server === server;
    },
    async fact(name) {
      const [[row] = []] = await ask(others.selectFact(name));
      return row === undefined ? null : String(row.value);
    },
    async noteFact(name, value) {
      await ask(others.upsertFact(name, value));
    },
  };
}

const toAllocation = (row: Row): Allocation => decode(DOMAIN_COLUMNS, row);

function toEni(row: Row): LedgerEni {
  const { generation: _generation, token: _token, ...eni } = decode(getTableColumns(eniTable), row);
  return eni;
}

const toServer = (row: Row): LedgerServer => decode(getTableColumns(serverTable), row);

const byAge = (a: Allocation, b: Allocation): number =>
  a.movedAt - b.movedAt || numberOf(a.ip) - numberOf(b.ip) || (a.subnet < b.subnet ? -1 : 1);
