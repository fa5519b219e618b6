/** The statements about tenants, for MySQL and SQLite. */
import { type SQL, sql } from 'drizzle-orm';
import type { EniId } from '../domain/ids.ts';
import { COUNTED, type Limited, type Tenant } from '../domain/tenant.ts';
import type { Dialect } from './reads.ts';
import type { Row } from './rows.ts';

export function createTenantReads({ allocation, eni, tenant }: Dialect['tables']) {
  const { iface, primary, status } = allocation;
  const isCounted = sql`${iface} = ${eni.id} AND ${status} IN ${COUNTED} AND ${primary} = 0`;
  const used = (name: SQL) =>
    sql`(SELECT COUNT(*) FROM ${eni} JOIN ${allocation} ON ${isCounted} WHERE ${eni.tenant} = ${name})`;

  return {
    all: [
      sql`SELECT ${tenant.name}, ${tenant.quota}, ${tenant.profile}, ${used(sql`${tenant.name}`)} AS used
        FROM ${tenant}`,
      sql`SELECT named.tenant AS name, NULL AS quota, NULL AS profile, ${used(sql`named.tenant`)} AS used
        FROM (SELECT DISTINCT ${eni.tenant} FROM ${eni} WHERE ${eni.tenant} IS NOT NULL) AS named
        WHERE NOT EXISTS (SELECT 1 FROM ${tenant} WHERE ${tenant.name} = named.tenant)`,
    ],
    profiles: sql`SELECT ${tenant.name}, ${tenant.profile} FROM ${tenant} WHERE ${tenant.profile} IS NOT NULL`,
    of: (id: EniId): SQL =>
      sql`SELECT ${tenant.name}, ${tenant.quota}, ${used(sql`${tenant.name}`)} AS used FROM ${tenant}
        WHERE ${tenant.name} = (SELECT ${eni.tenant} FROM ${eni} WHERE ${eni.id} = ${id})`,
  };
}

export const toTenant = ({ name, quota, profile, used }: Row): Tenant => ({
  name: String(name),
  quota: quota === null ? null : Number(quota),
  profile: profile === null ? null : String(profile),
  used: Number(used),
});

/** The tenant in the rows of `of`; null: there is none. */
export const limitedIn = ([row]: readonly Row[]): Limited | null =>
  row === undefined ? null : { name: String(row.name), quota: Number(row.quota), used: Number(row.used) };
