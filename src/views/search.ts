/** The search: by address, ENI, instance or container. */
import * as v from 'valibot';
import { contains, type Ipv4, toNumber } from '../domain/address.ts';
import type { Allocation } from '../domain/allocation.ts';
import { IpamError } from '../domain/error.ts';
import type { EniId, InstanceId } from '../domain/ids.ts';
import { nextTurn } from '../store/next-turn.ts';
import type { LedgerEni } from '../store/store.ts';
import { boolean, described, string, stringOrNull } from './shapes.ts';
import type { Sources } from './views.ts';

/** What is found of each kind. */
const FOUND_MAX = 50;
const FOUND_KINDS = ['address', 'container', 'eni', 'instance', 'subnet'] as const;

const Found = v.object({
  kind: described(v.picklist(FOUND_KINDS), 'What was found.'),
  name: string("The container's name, or the id of what was found."),
  subnet: stringOrNull('The id of its subnet; null: it has none.'),
  address: stringOrNull('The IPv4 address; null: what was found is none, and holds none.'),
  eni: stringOrNull('The id of its ENI; null: none.'),
  instance: stringOrNull('The id of its instance; null: none, or not known.'),
});
export type Found = v.InferOutput<typeof Found>;

export const SearchView = v.object({
  query: string('What was asked for, without the spaces around it.'),
  found: described(v.array(Found), `At most ${FOUND_MAX} containers.`),
  hasMore: boolean('Whether there are more containers than are listed.'),
});
export type SearchView = v.InferOutput<typeof SearchView>;

/** The longest query, in characters. */
export const QUERY_CHARS_MAX = 100;
const NOTHING = { subnet: null, address: null, eni: null, instance: null };

/** Throws bad-request for an empty or a long query. An id may be cut short only for containers, and
 *  their names may contain it. */
export async function readSearch({ store, subnets }: Sources, query: string): Promise<SearchView> {
  const text = query.trim();
  if (text === '' || text.length > QUERY_CHARS_MAX)
    throw new IpamError('bad-request', 'the query is empty or too long', {
      hint: `give an address, an ENI, an instance or a name of a container, of at most ${QUERY_CHARS_MAX} characters`,
    });
  const found: Found[] = [];
  const known = await subnets();
  const add = (kind: Found['kind'], name: string, more: Partial<Found>) =>
    found.push({ ...NOTHING, ...more, kind, name });

  for (const { id } of known) if (id === text) add('subnet', id, { subnet: id });
  if (toNumber(text) !== null) {
    const ip = text as Ipv4;
    for (const { id } of known.filter(({ cidr }) => contains(cidr, ip)))
      for (const row of (await store.get(id, [ip])).rows) add('address', ip, placeOf(row));
  }
  if (text.startsWith('eni-'))
    for (const eni of await store.enisNamed([text as EniId])) add('eni', eni.id, homeOf(eni));
  if (text.startsWith('i-'))
    for (const eni of await store.enisOf(text as InstanceId)) add('instance', text, homeOf(eni));
  await nextTurn();
  const { rows } = await store.heldBy(text, FOUND_MAX + 1);
  for (const row of rows.slice(0, FOUND_MAX))
    add('container', row.holder ?? row.containerId ?? '', placeOf(row));
  return { query: text, found, hasMore: rows.length > FOUND_MAX };
}

const placeOf = ({ subnet, ip: address, iface: eni, instance }: Allocation) => ({
  subnet,
  address,
  eni,
  instance,
});
const homeOf = ({ subnet, id: eni, instance }: LedgerEni) => ({ subnet, eni, instance });
