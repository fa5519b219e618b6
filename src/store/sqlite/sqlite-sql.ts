import { getTableColumns } from 'drizzle-orm';
import type { BaseSQLiteDatabase } from 'drizzle-orm/sqlite-core';
import { allocation } from './schema.ts';

export type Db = BaseSQLiteDatabase<'sync', { changes: number | bigint }>;

const { ts: _ts, number: _number, spread: _spread, ...domain } = getTableColumns(allocation);
/** The columns that an Allocation is made of. */
export const DOMAIN_COLUMNS = domain;
