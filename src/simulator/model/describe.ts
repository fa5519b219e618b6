/** DescribeNetworkInterfaces: filters, wildcards and pagination. */
import type { EniId } from '../../domain/ids.ts';
import type { View } from './caller.ts';
import { refuse } from './ec2-error.ts';
import type { Network } from './network.ts';
import { type Eni, ipv4sOf } from './records.ts';

export interface Filter {
  readonly name: string;
  readonly values: readonly string[];
}

export interface DescribeEnis {
  readonly ids?: readonly EniId[];
  readonly filters?: readonly Filter[];
  /** 5 to PAGE_SIZE_MAX. */
  readonly maxResults?: number;
  readonly nextToken?: string;
}

export interface EniPage {
  readonly enis: readonly Eni[];
  readonly nextToken: string | null;
}

/** The most ENIs in one response of DescribeNetworkInterfaces, paginated or not. */
const PAGE_SIZE_MAX = 1000;
const PAGE_SIZE_MIN = 5;
export const FILTER_VALUES_MAX = 200;

/** The values of a record that each filter compares. A name with a colon at its end is a filter with a key. */
export type FilterReaders<T> = Record<string, (record: T, key: string) => readonly string[]>;

const ENI_FILTERS: FilterReaders<Eni> = {
  'subnet-id': eni => [eni.subnet],
  'vpc-id': eni => [eni.vpc],
  'owner-id': eni => [eni.owner],
  'availability-zone': eni => [eni.zone],
  'network-interface-id': eni => [eni.id],
  'mac-address': eni => [eni.mac],
  'interface-type': eni => [eni.interfaceType],
  'requester-managed': eni => [String(eni.requesterManaged)],
  description: eni => [eni.description],
  status: eni => [eni.attachment === null ? 'available' : 'in-use'],
  'private-ip-address': eni => (eni.primary === null ? [] : [eni.primary]),
  'addresses.private-ip-address': ipv4sOf,
  'attachment.attachment-id': eni => (eni.attachment === null ? [] : [eni.attachment.id]),
  'attachment.instance-id': eni => (eni.attachment === null ? [] : [eni.attachment.instance]),
  'attachment.device-index': eni => (eni.attachment === null ? [] : [String(eni.attachment.deviceIndex)]),
  'tag-key': eni => Object.keys(eni.tags),
  'tag:': (eni, key) => [eni.tags[key] ?? []].flat(),
};

/** Whether a call has no filter and no pagination. EC2 has smaller token buckets for it. */
export const isSweeping = (request: DescribeEnis): boolean =>
  request.maxResults === undefined && !request.filters?.length && !request.ids?.length;

/** The ENIs of the request, in the order of their ids, as they were at `at`. */
export function describeEnis(
  network: Network,
  request: DescribeEnis,
  at?: number,
  view: View | null = null,
): EniPage {
  const { ids = [], filters = [], maxResults, nextToken } = request;
  if (ids.length > 0 && maxResults !== undefined) throw refuse.idsAndPages();
  if (maxResults !== undefined && !(maxResults >= PAGE_SIZE_MIN && maxResults <= PAGE_SIZE_MAX))
    throw refuse.badMaxResults(String(maxResults));
  const fits = matcher(filters, ENI_FILTERS);
  if (ids.length > 0)
    return { enis: [...new Set(ids)].map(id => eniIn(network, id, view, at)).filter(fits), nextToken: null };
  const wanted = (eni: Eni): boolean => fits(eni) && (view?.showsEni(eni) ?? true);

  const limit = maxResults ?? PAGE_SIZE_MAX;
  const page: Eni[] = [];
  for (const eni of network.enis(at, nextToken === undefined ? '' : lastIdIn(nextToken, filters))) {
    if (!wanted(eni)) continue;
    if (page.length === limit) {
      if (maxResults === undefined) throw refuse.paginate();
      return { enis: page, nextToken: tokenAfter(page.at(-1)?.id ?? '', filters) };
    }
    page.push(eni);
  }
  return { enis: page, nextToken: null };
}

function eniIn(network: Network, id: EniId, view: View | null, at?: number): Eni {
  const eni = network.eni(id, at);
  if (view?.showsEni(eni) === false) throw refuse.noSuchEni(id);
  return eni;
}

/** Tests a record: one value of every filter must match. */
export function matcher<T>(filters: readonly Filter[], readers: FilterReaders<T>): (record: T) => boolean {
  if (filters.reduce((sum, { values }) => sum + values.length, 0) > FILTER_VALUES_MAX)
    throw refuse.tooManyFilterValues();
  const tests = filters.map(({ name, values }) => {
    const [kind = '', key = ''] = name.split(/:(.*)/s);
    const read = readers[key === '' ? kind : `${kind}:`];
    if (read === undefined) throw refuse.badFilter(name);
    const exact = new Set(values);
    const patterns = values.filter(value => /[*?]/.test(value)).map(patternOf);
    return (record: T) =>
      read(record, key).some(value => exact.has(value) || patterns.some(pattern => pattern.test(value)));
  });
  return record => tests.every(test => test(record));
}

/** `*` matches any text and `?` one character. */
const patternOf = (text: string): RegExp =>
  new RegExp(
    `^${text
      .replace(/[\\^$.|+()[\]{}]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.')}$`,
  );

// A token has the last id of the page and the filters; EC2 refuses it with other filters.
const tokenAfter = (id: string, filters: readonly Filter[]): string => btoa(JSON.stringify([id, filters]));

function lastIdIn(token: string, filters: readonly Filter[]): string {
  const id = /^\["(eni-[0-9a-f]+)",/.exec(decode(token))?.[1];
  if (id === undefined || tokenAfter(id, filters) !== token) throw refuse.badToken();
  return id;
}

function decode(token: string): string {
  try {
    return atob(token);
  } catch {
    throw refuse.badToken();
  }
}
