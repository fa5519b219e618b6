/** What readings of hosts have shown, in MySQL and SQLite. */
import { getTableColumns, type SQL, sql } from 'drizzle-orm';
import { numberOf } from '../domain/address.ts';
import type { LedgerSighting, LedgerWitness } from '../domain/sighting.ts';
import { type Dialect, NOW } from './reads.ts';
import { decode } from './rows.ts';
import type { Database } from './sql-store.ts';
import type { Reading, SightingKey, SightingStore } from './store.ts';
import { portions, upsertInto, type Values } from './upsert.ts';

/** Sightings of one INSERT, and ENIs of one list. They keep a statement well under 1 MiB. */
const SIGHTINGS_MAX = 250;
const IDS_MAX = 2_000;

export function createSightings({ read, write }: Database, dialect: Dialect): SightingStore {
  const { sighting, witness } = dialect.tables;

  const isOf = ({ subnet, ip, iface }: SightingKey): SQL =>
    sql`(${sighting.subnet} = ${subnet} AND ${sighting.ip} = ${ip} AND ${sighting.iface} = ${iface})`;

  async function readSightings(selects: readonly SQL[]): Promise<Reading<LedgerSighting>> {
    const columns = getTableColumns(sighting);
    const { now, rows } = await read(selects);
    const found = rows.map(row => decode<LedgerSighting>(columns, row));
    return { now, rows: found.sort((a, b) => numberOf(a.ip) - numberOf(b.ip)) };
  }

  return {
    sightings: ids =>
      readSightings(
        portions(ids, IDS_MAX).map(some => sql`SELECT * FROM ${sighting} WHERE ${sighting.iface} IN ${some}`),
      ),
    usedSightings: () =>
      readSightings([sql`SELECT * FROM ${sighting} WHERE ${sighting.usedSince} IS NOT NULL`]),
    async forgetSighting(seen) {
      const change = sql`DELETE FROM ${sighting} WHERE ${isOf(seen)} AND ${sighting.generation} = ${seen.generation}
        AND ${sighting.usedSince} = ${seen.usedSince}`;
      const left = sql`SELECT 1 FROM ${sighting} WHERE ${sighting.subnet} = ${seen.subnet} AND ${sighting.ip} = ${seen.ip}`;
      return (await write([change], left)).rows.length === 0;
    },
    async witnesses() {
      const { now, rows } = await read([sql`SELECT * FROM ${witness}`]);
      return { now, rows: rows.map(row => decode<LedgerWitness>(getTableColumns(witness), row)) };
    },
    async beginReading(instance, ticket) {
      const begin = upsertInto(dialect, witness, [{ instance, ticket, begunAt: NOW }], ['ticket', 'begunAt']);
      const select = sql`SELECT * FROM ${witness} WHERE ${witness.instance} = ${instance}`;
      const [row = {}] = (await write([begin], select)).rows;
      // Another reading may have been begun since. This one is then not saved.
      return { ...decode<LedgerWitness>(getTableColumns(witness), row), ticket };
    },
    async saveReading({ instance, ticket, incomplete, engine, engineSince }, save, forget) {
      const isLast = sql`${witness.instance} = ${instance} AND ${witness.ticket} = ${ticket}`;
      // It locks the row, so that no other reading is begun before the commit.
      const note = sql`UPDATE ${witness} SET read_at = ${NOW}, incomplete = ${incomplete}, engine = ${engine},
        engine_since = ${engineSince} WHERE ${isLast}`;
      const only = sql`EXISTS (SELECT 1 FROM ${witness} WHERE ${isLast})`;
      const deletes = portions(forget, SIGHTINGS_MAX).map(some => {
        return sql`DELETE FROM ${sighting} WHERE (${sql.join(some.map(isOf), sql` OR `)}) AND ${only}`;
      });
      const replaced = Object.keys(getTableColumns(sighting)).filter(key => key !== 'subnet' && key !== 'ip');
      const inserts = portions(save, SIGHTINGS_MAX).map(some =>
        upsertInto(dialect, sighting, some.map(keyFirst), replaced, { keyColumns: SIGHTING_KEYS, only }),
      );
      const select = sql`SELECT ${witness.ticket} FROM ${witness} WHERE ${witness.instance} = ${instance}`;
      // After the commit another one may have been begun.
      const { rows } = await write([note, ...deletes, ...inserts], select);
      return rows[0]?.ticket === ticket;
    },
  };
}

/** The columns of its key, which must come first. */
const SIGHTING_KEYS = 2;
const keyFirst = ({ subnet, ip, ...rest }: LedgerSighting): Values => ({ subnet, ip, ...rest });
