/** The statements about tenants, for MySQL and SQLite. */
import { type SQL, sql } from 'drizzle-orm';
import type { EniId } from '../domain/ids.ts';
import { COUNTED, type Limited, type Tenant } from '../domain/tenant.ts';
import type { Read } from './looks.ts';
import { inEniParts } from './parts.ts';
import type { Dialect } from './reads.ts';
import type { Row } from './rows.ts';

export function createTenantReads({ allocation, eni, tenant }: Dialect['tables']) {
  const { iface, primary, status } = allocation;
  const isCounted = sql`${iface} = ${eni.id} AND ${status} IN ${COUNTED} AND ${primary} = 0`;
  const used = (name: SQL) =>
    sql`(SELECT COUNT(*) FROM ${eni} JOIN ${allocation} ON ${isCounted} WHERE ${eni.tenant} = ${name})`;

  return {
    /** The declared ones, and what some ENIs of each tenant have. */
    declared: sql`SELECT ${tenant.name}, ${tenant.quota}, ${tenant.profile} FROM ${tenant}`,
    usedOn: (isPart: (id: typeof eni.id) => SQL): SQL =>
      sql`SELECT ${eni.tenant} AS name, COUNT(${iface}) AS used FROM ${eni} LEFT JOIN ${allocation} ON ${isCounted}
        WHERE ${isPart(eni.id)} AND ${eni.tenant} IS NOT NULL GROUP BY ${eni.tenant}`,
    profiles: sql`SELECT ${tenant.name}, ${tenant.profile} FROM ${tenant} WHERE ${tenant.profile} IS NOT NULL`,
    of: (id: EniId): SQL =>
      sql`SELECT ${tenant.name}, ${tenant.quota}, ${used(sql`${tenant.name}`)} AS used FROM ${tenant}
        WHERE ${tenant.name} = (SELECT ${eni.tenant} FROM ${eni} WHERE ${eni.id} = ${id})`,
  };
}

/** The declared tenants and those that ENIs name, by name. */
export async function readTenants(read: Read, dialect: Dialect): Promise<Tenant[]> {
  const { declared, usedOn } = createTenantReads(dialect.tables);
  const tenants = new Map<string, Tenant>();
  for (const { name, quota, profile } of (await read([declared])).rows)
    tenants.set(String(name), {
      ...{ name: String(name), quota: Number(quota), used: 0 },
      profile: profile === null ? null : String(profile),
    });
  const { rows } = await inEniParts(read, dialect, Number.POSITIVE_INFINITY, isPart => usedOn(isPart));
  for (const row of rows) {
    const name = String(row.name);
    const known = tenants.get(name) ?? { name, quota: null, profile: null, used: 0 };
    tenants.set(name, { ...known, used: known.used + Number(row.used) });
  }
  return [...tenants.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The tenant in the rows of `of`; null: there is none. */
export const limitedIn = ([row]: readonly Row[]): Limited | null =>
  row === undefined ? null : { name: String(row.name), quota: Number(row.quota), used: Number(row.used) };
